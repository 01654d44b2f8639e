"""A corpus under every fault at once: at the end each video is labelled once or in quarantine with the right class."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.doctor import examine
from pipeline.publish import publish
from pipeline.quarantine import read_failures
from pipeline.query import open_labels
from pipeline.store import Store
from tests.clips import green, red, write_clip, write_manifest
from tests.s3 import BUCKET

pytestmark = pytest.mark.slow

VIDEOS = 200
ONCE = ("exception", "memory", "reset", "kill", "exit", "segfault", "hang")
ALWAYS = {"exception": "exception", "memory": "oom", "kill": "killed", "hang": "deadline"}
DRIVER_DEATHS = 4


@pytest.fixture
def corpus(tmp_path):
    """Many rows over a few clips, some of them hopeless; and what their labels shall be."""
    rng = random.Random(20261122)
    clips = [write_clip(tmp_path / f"{i}.mp4", frames=4 + i, seed=i) for i in range(6)]
    (tmp_path / "text.mp4").write_text("not a video")
    rows, faults, classes = [], {}, {}
    for number in range(VIDEOS):
        name = f"v{number:03}"
        row = {"video_id": name, "video_uri": rng.choice(clips), "prompts": [red(), green(1)]}
        fate = rng.random()
        if fate < 0.02:
            row["video_uri"], classes[name] = str(tmp_path / "text.mp4"), "not_a_video"
        elif fate < 0.04:
            row["prompts"], classes[name] = [red(99)], "prompt"
        elif fate < 0.06:
            fault = rng.choice(list(ALWAYS))
            faults[name], classes[name] = [fault] * 9, ALWAYS[fault]
        elif fate < 0.12:
            faults[name] = [rng.choice(ONCE)]
        rows.append(row)
    return rows, faults, classes


def drive(tmp_path, manifest, output, faults, *options, disturb=None):
    """Run drivers until one reaches the end; `disturb(driver)` may kill it. Returns how many it took."""
    folder = tmp_path / f"chaos-{len(list(tmp_path.iterdir()))}"
    (folder / "tries").mkdir(parents=True)
    (folder / "faults.json").write_text(json.dumps(faults))
    for drivers in range(1, 30):
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos", manifest, output, str(folder), *options],
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )
        if disturb:
            disturb(driver)
        if driver.wait(1500) in (0, 3):
            return drivers
    raise AssertionError("no driver came to the end")


def labels(output):
    with open_labels(output) as found:
        rows = found.sql("SELECT * EXCLUDE (label_key) FROM masks ORDER BY video_id, object_id, frame_index").fetchall()
        return rows, [name for (name,) in found.sql("SELECT video_id FROM videos ORDER BY 1").fetchall()]


def test_chaos_on_s3_ends_as_a_calm_run_does(tmp_path, corpus, s3):
    rows, faults, classes = corpus
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    rng, killed, restarted = random.Random(4), [], []

    def disturb(driver):
        if len(killed) < DRIVER_DEATHS:
            killed.append(True)
            time.sleep(rng.uniform(15, 60))
            if len(killed) == 2:
                s3.server.kill()
                time.sleep(3)
                s3.server.start()
                restarted.append(True)
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)

    troubled = f"s3://{BUCKET}/chaos/troubled"
    drivers = drive(tmp_path, manifest, troubled, faults, "--one", disturb=disturb)
    assert drivers > 1
    assert restarted
    store = Store(troubled)
    assert examine(store, repair=True) is not None
    publish(store)
    assert examine(store) == []
    found = {failure.video_id: failure.failure_class for failure in read_failures(store)}
    assert found == classes

    calm = str(tmp_path / "calm")
    hopeless = {name: faults[name] for name in classes if name in faults}
    kept = write_manifest(tmp_path / "calm.parquet", [row for row in rows if row["video_id"] not in hopeless])
    drive(tmp_path, kept, calm, {}, "--one")
    calm_rows, calm_videos = labels(calm)
    troubled_rows, troubled_videos = labels(troubled)
    assert troubled_videos == calm_videos
    assert len(calm_videos) == VIDEOS - len(classes)
    assert troubled_rows == calm_rows
    assert set(Counter(row[:3] for row in troubled_rows).values()) == {1}
