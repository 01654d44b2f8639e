"""Drivers that are killed, stopped, paused and started twice: nothing is lost, and nothing is there twice."""

import os
import random
import signal
import time
from collections import Counter
from functools import partial

import pytest

from pipeline.storage import Store
from pipeline.tables.doctor import examine
from pipeline.tables.query import open_labels
from tests.clips import green, red, write_clip, write_manifest
from tests.runs.chaos import Settings, crash, start, tries, wait_for
from tests.tracking.models import random_model_folder

pytestmark = pytest.mark.slow

VIDEOS = 40
IN_FLIGHT = 2
"""Videos in the hands of one worker of one lane."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture
def config(tmp_path, model, s3):
    clips = [write_clip(tmp_path / f"{i}.mp4", frames=5 + i, seed=i) for i in range(4)]
    rows = [
        {"video_id": f"v{i:02}", "video_uri": clips[i % 4], "prompts": [red(), green(1)], "num_frames": 5 + i % 4}
        for i in range(VIDEOS)
    ]
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    return {"manifest": manifest, "output": f"{s3.uri}/out", "model": model, "actors": 1, "cpus_per_actor": 0.5}


def check(output):
    """Each video's rows are there once, and the doctor finds nothing."""
    expected = Counter()
    for i in range(VIDEOS):
        expected.update((f"v{i:02}", o, t) for o in (1, 2) for t in range(o - 1, 5 + i % 4))
    with open_labels(output) as labels:
        assert Counter(labels.sql("SELECT video_id, object_id, frame_index FROM masks").fetchall()) == expected
    assert examine(Store(output)) == []


def tried(folder, times):
    return sum(tries(folder).values()) >= times


def test_a_driver_killed_at_ten_random_moments_loses_nothing(tmp_path, config):
    rng, folder = random.Random(10), tmp_path / "run"
    moments = [("labelling", rng.randint(1, 5)) for _ in range(6)]
    moments.insert(4, ("publishing what is there", 1))
    moments += [("publishing", tables) for tables in (1, 2, 3)]
    for number, (moment, count) in enumerate(moments):
        target = count + (sum(tries(folder).values()) if number else 0)
        driver = start(folder, Settings(config=config, dies_after_tables=0 if moment == "labelling" else count))
        if moment != "publishing":
            wait_for(partial(tried, folder, target), driver)
            time.sleep(rng.uniform(0, 0.5))
        if moment == "publishing what is there":
            os.kill(driver.pid, signal.SIGTERM)
        if moment != "labelling":
            driver.wait(300)
        crash(driver)  # with its workers, which outlive a driver that kills itself
        assert driver.returncode == -signal.SIGKILL
    assert start(folder, Settings(config=config)).wait(300) == 0
    check(config["output"])
    again = sum(tries(folder).values()) - VIDEOS
    deaths = sum(moment != "publishing" for moment, _ in moments)
    print(f"{len(moments)} deaths, {deaths} of them while labelling {VIDEOS} videos: {again} tries more than videos")
    assert again <= IN_FLIGHT * deaths


def test_a_second_driver_is_refused_and_a_resumed_one_changes_nothing(tmp_path, config):
    paused, refused, successor = (tmp_path / name for name in ("paused", "refused", "successor"))
    fast = (1.0, 6.0)
    first = start(paused, Settings(config=config, faults={"v03": ["wait"]}, lease=fast))
    wait_for(lambda: tries(paused), first)

    assert start(refused, Settings(config=config, lease=fast)).wait(300) == 1
    said = (refused / "log").read_text()
    assert "is being labelled by run" in said
    assert f"(process {first.pid} on " in said
    assert not tries(refused)

    os.kill(first.pid, signal.SIGSTOP)
    second = start(successor, Settings(config=config, lease=fast))
    wait_for(lambda: len(tries(successor)) >= 2, second)
    (paused / "go").touch()
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(300) == 4
    assert "another process has taken over" in (paused / "log").read_text()
    assert second.wait(300) == 0
    check(config["output"])
