"""Storage in trouble while videos are labelled: what passes is waited out, and what does not is said and repaired."""

import random
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.storage import Store
from pipeline.tables.doctor import examine
from pipeline.tables.query import open_labels
from tests.clips import green, red, write_clip, write_manifest
from tests.proxy import Proxy
from tests.runs.chaos import Settings, start, tries, wait_for
from tests.s3 import BUCKET, SeaweedFS
from tests.tracking.models import random_model_folder

pytestmark = pytest.mark.slow

VIDEOS = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def rows(tmp_path):
    clips = [write_clip(tmp_path / f"{i}.mp4", frames=5 + i, seed=i) for i in range(4)]
    return [
        {"video_id": f"v{i:02}", "video_uri": clips[i % 4], "prompts": [red(), green(1)], "num_frames": 5 + i % 4}
        for i in range(VIDEOS)
    ]


def settings(tmp_path, model, rows, output):
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    return Settings(config={"manifest": manifest, "output": output, "model": model, "actors": 2, "cpus_per_actor": 0.5})


def check(output):
    """Every video is labelled, once, at its first attempt, and the doctor finds nothing."""
    with open_labels(output) as labels:
        assert labels.sql("SELECT count(*), count(DISTINCT video_id), max(attempts) FROM videos").fetchall() == [
            (VIDEOS, VIDEOS, 1)
        ]
        assert labels.sql("SELECT count(*) FROM masks").fetchall() == [
            (sum(2 * (5 + i % 4) - 1 for i in range(VIDEOS)),)
        ]
    assert examine(Store(output)) == []


def on_s3(rows, uri):
    """The rows with their clips in S3."""
    store = Store(f"{uri}/videos")
    for path in {Path(row["video_uri"]) for row in rows}:
        store.put(path.name, path.read_bytes())
    return [row | {"video_uri": f"{uri}/videos/{Path(row['video_uri']).name}"} for row in rows]


def test_refusals_resets_lost_answers_and_slow_ones_cost_no_video_an_attempt(tmp_path, model, rows, s3):
    rng = random.Random(7)
    share = {"refused": 0.04, "reset": 0.04, "lost answer": 0.04, "slow": 0.01}

    def trouble(_):
        return rng.choices([*share, None], [*share.values(), 1 - sum(share.values())])[0]

    rows = on_s3(rows, s3.uri)
    with Proxy(s3.endpoint, trouble=trouble) as proxy:
        given = settings(tmp_path, model, rows, f"{s3.uri}/out")
        assert start(tmp_path / "run", given, env={"AWS_ENDPOINT_URL": proxy.endpoint}).wait(600) == 0
    print(f"{proxy.requests.total()} requests, of which {dict(proxy.troubles)}")
    assert min(proxy.troubles[name] for name in share) >= 1
    check(f"{s3.uri}/out")


def test_a_server_that_restarts_costs_no_video_an_attempt(tmp_path, model, rows, monkeypatch):
    server = SeaweedFS(tmp_path / "seaweedfs")
    server.start()
    try:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        output, folder = f"s3://{BUCKET}/out", tmp_path / "run"
        driver = start(folder, settings(tmp_path, model, on_s3(rows, f"s3://{BUCKET}"), output))
        wait_for(lambda: len(tries(folder)) >= VIDEOS // 3, driver)
        server.kill()
        time.sleep(10)
        server.start()
        assert driver.wait(600) == 0
        check(output)
    finally:
        server.kill()


def test_a_full_disk_is_reported_and_a_later_run_labels_the_rest(tmp_path, model, rows):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root, for a small disk")
    try:
        given = settings(tmp_path, model, rows, str(disk / "out"))
        assert start(tmp_path / "full", given).wait(600) == 1
        assert "no space left; free some or choose another place" in (tmp_path / "full" / "log").read_text()
        committed = {entry.path for entry in Store(disk / "out").list("parts")}
        assert 0 < len(committed) < VIDEOS
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        assert start(tmp_path / "free", given).wait(600) == 0
        assert len(tries(tmp_path / "free")) == VIDEOS - len(committed)
        with open_labels(str(disk / "out")) as labels:
            assert labels.sql("SELECT count(*), count(DISTINCT video_id) FROM videos").fetchall() == [(VIDEOS, VIDEOS)]
        assert examine(Store(disk / "out")) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
