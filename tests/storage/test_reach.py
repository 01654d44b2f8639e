"""Endpoints and credentials: what cannot be reached or used is named, soon, without secrets."""

import importlib
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import MissingError, Storage, Store, open_source, source_versions
from tests.fixtures_s3 import S3
from tests.proxy import Proxy
from tests.s3 import BUCKET, READER_KEY, READER_SECRET, WRITER_KEY, WRITER_SECRET, SeaweedFS


def test_wrong_credentials_are_named_and_not_shown(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(s3.uri).put("x", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "swordfish")
    store = Store(s3.uri)
    for use in (lambda: store.read("x"), lambda: store.put("x", b""), lambda: list(store.list()), store.check_writable):
        with pytest.raises(StorageError, match=r"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY") as caught:
            use()
        assert "swordfish" not in str(caught.value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StorageError, match=r"the access key is unknown"):
        Store(s3.uri).commit_once("y", b"")


def test_a_missing_bucket_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.server.env(WRITER_KEY, WRITER_SECRET).items():
        monkeypatch.setenv(name, value)
    store = Store("s3://no-such-bucket/out")
    with pytest.raises(MissingError, match="the bucket 'no-such-bucket' does not exist"):
        store.read("x")
    with pytest.raises(MissingError, match="the bucket 'no-such-bucket' does not exist"):
        list(store.list())
    with pytest.raises(StorageError, match="bucket 'no-such-bucket'"):
        store.check_writable()


def test_an_output_that_may_only_be_read_is_refused_at_once(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(s3.uri).put("x", b"1")
    for name, value in s3.server.env(READER_KEY, READER_SECRET).items():
        monkeypatch.setenv(name, value)
    assert Store(s3.uri).read("x") == b"1"
    with pytest.raises(StorageError, match="permission denied"):
        Store(s3.uri).check_writable()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The endpoint in the environment, whose port refuses connections as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for name, value in {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        yield endpoint


COMMANDS = {
    "query": ["s3://bucket/out", "SELECT 1"],
    "doctor": ["s3://bucket/out"],
    "publish": ["s3://bucket/out"],
    "status": ["s3://bucket/out"],
    "retry": ["s3://bucket/out", "--all"],
    "report": ["s3://bucket/out"],
    "manifest": ["validate", "s3://bucket/manifest.parquet"],
    "label": ["--manifest", "s3://bucket/m.parquet", "--output", "s3://bucket/out", "--model", "embedded", "--dry-run"],
}


def test_each_command_names_a_refused_endpoint_in_one_line(
    closed: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for command, arguments in COMMANDS.items():
        assert importlib.import_module(f"jobs.{command}").main(arguments) in (1, 2), command
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(";")[0] for line in said] == [f"error: cannot reach {closed}: Connection refused"], said
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_endpoint_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid:8333")
    with pytest.raises(StorageError, match=r"cannot reach http://no-such-host\.invalid:8333: .*AWS_ENDPOINT_URL"):
        Store("s3://bucket/x").read("y")
    address = closed.partition("//")[2]
    with pytest.raises(StorageError, match=f"cannot reach https?://{address}: Connection refused"):
        open_source(f"http://{address}/v.mp4")
    assert source_versions([f"http://{address}/{name}.mp4" for name in "abc"]) == [None] * 3


def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", closed)
    with pytest.raises(StorageError, match=f"cannot reach http://s3.example through {closed.partition('//')[2]}: "):
        open_source("http://s3.example/v.mp4")


def test_a_server_that_was_reached_before_is_retried(
    s3: S3, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        store = Store(f"{s3.uri}/x", retry_budget_s=1)
        store.put("y", b"1")
    with pytest.raises(StorageError, match=r"after \d+ s of retries; check that the endpoint"):
        list(store.list_sharded("parts"))
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 3, warnings


WORKER = """
from pipeline.storage import Store
from pipeline.storage.contact import expect_outages
expect_outages()
Store("s3://bucket/x", retry_budget_s=0.5).read("y")
"""


@pytest.mark.usefixtures("closed")
def test_a_worker_retries_from_its_first_request() -> None:
    done = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=False)
    assert "s of retries; check that the endpoint" in done.stderr


def test_missing_credentials_are_named(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Store(f"{s3.uri}/x")
    for use in (lambda: store.read("y"), lambda: list(store.list()), lambda: store.list_dirs(), store.check_writable):
        with pytest.raises(StorageError, match="no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            use()
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(StorageError, match=r"cannot use s3://.*no-such-profile"):
        Store(f"{s3.uri}/x").read("y")


def test_https_to_a_server_that_speaks_http_is_not_retried_for_long(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint.replace("http:", "https:"))
    with pytest.raises(StorageError, match=r"cannot read .*(?i:ssl)"):
        Store(f"{s3.uri}/x").read("y")


def test_prefixes_may_have_their_own_access(s3: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Store(s3.uri).put("in/x", b"1")
    for name in s3.env:
        monkeypatch.delenv(name)
    monkeypatch.setenv("READ_KEY", READER_KEY)
    monkeypatch.setenv("READ_SECRET", READER_SECRET)
    (tmp_path / "storage.toml").write_text(
        f'["{s3.uri}"]\nendpoint = "http://127.0.0.1:9"\n'
        f'["{s3.uri}/in"]\nendpoint = "{s3.endpoint}"\nkey_env = "READ_KEY"\nsecret_env = "READ_SECRET"\n'
    )
    storage = Storage.from_toml(tmp_path / "storage.toml")
    store = Store(f"{s3.uri}/in", storage=storage)
    assert store.read("x") == b"1"
    assert open_source(f"{s3.uri}/in/x", storage=storage)[0].read() == b"1"
    with pytest.raises(StorageError, match="permission denied"):
        store.put("x", b"2")
    assert READER_SECRET not in repr(storage) + repr(store)
    assert READER_SECRET.encode() not in pickle.dumps(store)


def test_a_server_that_restarts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = SeaweedFS(tmp_path)
    server.start()
    try:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        store = Store(f"s3://{BUCKET}/out", retry_budget_s=180)
        store.put("before", b"1")
        server.kill()
        restart = threading.Timer(1.0, server.start)
        restart.start()
        assert store.commit_once("after", b"2")
        assert sorted(entry.path for entry in store.list()) == ["after", "before"]
        restart.join()
    finally:
        server.kill()
