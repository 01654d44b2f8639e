"""Ray that cannot be reached or started: one line that says what to do, within seconds, before anything is written."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.workers.address import PoolError, check_cluster
from tests.clips import red, write_clip, write_manifest

WITHOUT_PASSWD_ENTRY = 54321

LOCAL_RAY = """
import ray
from pipeline.workers.cluster import connect
from pipeline.workers.metrics import DriverMetrics, WorkerMetrics
connect(None, cpus=1, gpus=None, actors=1, device="cpu")
DriverMetrics("run", output="/mnt/видео").update(
    labelled=1, failed={}, waiting=0, in_flight=0, workers=[], starts=1, deaths={}, quarantined=0, now=1.0, force=True
)
WorkerMetrics("run", output="s3://b/動画\\udcff", lanes=1).update({"frames": 1}, force=True)
print(ray.get(ray.remote(lambda: "labelled").remote()))
"""


@pytest.fixture
def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        yield held.getsockname()[1]


@pytest.fixture
def other_server():
    """A server that accepts connections and does not speak gRPC."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_a_run_at_an_address_where_nothing_listens_writes_nothing(tmp_path, closed_port):
    clip = write_clip(tmp_path / "clip.mp4", frames=2)
    manifest = write_manifest(tmp_path / "m.parquet", [{"video_id": "v", "video_uri": clip, "prompts": [red()]}])
    output = tmp_path / "out"
    config = RunConfig(manifest=manifest, output=str(output), model="embedded", address=f"127.0.0.1:{closed_port}")
    with pytest.raises(
        PoolError, match=rf"cannot reach the Ray cluster at 127.0.0.1:{closed_port}: Connection refused"
    ):
        label_corpus(config)
    assert not output.exists()


def test_an_address_from_the_environment_is_checked_too(monkeypatch, closed_port):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    for address in (None, "auto"):
        with pytest.raises(PoolError, match="cannot reach the Ray cluster"):
            check_cluster(address)


def test_a_server_that_is_not_ray_is_refused(other_server):
    with pytest.raises(PoolError, match=r"does not answer as a Ray head node .*; give the head's GCS port"):
        check_cluster(f"127.0.0.1:{other_server}")


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "http://head:8265", "head", "head:port", ":6379", "head:99999"]
)
def test_addresses_that_are_not_host_and_port_are_refused(address):
    with pytest.raises(PoolError, match="allowed is HOST:PORT"):
        check_cluster(address)


def test_auto_without_a_cluster_explains_how_to_start_one(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("psutil.process_iter", lambda *_: iter(()))  # other clusters may run on this machine
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(PoolError, match=r"no Ray cluster runs on this machine \(--address auto\): start one"):
        check_cluster("auto")


def test_a_folder_where_ray_cannot_write_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file"))
    with pytest.raises(PoolError, match=r"cannot write its session files to .*/file/ray; set RAY_TMPDIR"):
        check_cluster(None)


@pytest.mark.parametrize("home", [None, "/proc"], ids=["no home, no passwd entry", "read-only home"])
def test_a_local_ray_needs_no_home_directory_and_no_passwd_entry(home):
    env = {name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith("RAY_AUTH")}
    prefix = []
    if home:
        env["HOME"] = home
    else:
        prefix = ["unshare", "--user", f"--map-user={WITHOUT_PASSWD_ENTRY}"]
        if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("needs unshare and user namespaces")
    env["TMPDIR"] = "/tmp"
    command = [*prefix, sys.executable, "-c", LOCAL_RAY]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.splitlines()[-1:] == ["labelled"], done.stderr[-2000:]
    assert "UnicodeEncodeError" not in done.stderr


@pytest.mark.slow
def test_a_cluster_with_a_token_asks_for_it(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, folder = secrets.token_hex(32), f"/tmp/ray-test-{os.getpid()}"
    monkeypatch.setenv("HOME", str(tmp_path))
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    command = ["start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}"]
    options = ["--num-cpus=1", "--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    run = [sys.executable, "-m", "ray.scripts.scripts", *command, *options]
    join = f"from pipeline.workers.address import check_cluster; check_cluster('127.0.0.1:{port}'); print('joined')"
    with subprocess.Popen(run, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as head:
        try:
            assert any("ray start" in line or "Ray runtime started" in line for line in head.stdout)
            for given, expected in (
                ({}, "does not accept this token, or none is set: set RAY_AUTH_MODE=token"),
                ({"RAY_AUTH_TOKEN": secrets.token_hex(32)}, "does not accept this token"),
                ({"RAY_AUTH_MODE": "token"}, "does not accept this token, or none is set"),
                ({"RAY_AUTH_TOKEN": token}, "joined"),
                ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}, "joined"),
            ):
                clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
                done = subprocess.run(
                    [sys.executable, "-c", join], env={**clean, **given}, capture_output=True, text=True, check=False
                )
                assert expected in done.stdout + done.stderr, (given, done.stderr)
        finally:
            head.terminate()
