"""Workers that die in the middle of a video: what is done again, and what the video is charged with."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.labels.failures import read_failures
from pipeline.storage import Store
from pipeline.tables.query import open_labels
from tests.clips import red, write_clip, write_manifest
from tests.runs.chaos import Settings, crash, frames, start, tries
from tests.tracking.models import random_model_folder

pytestmark = pytest.mark.slow

LONG, DEATH = 2000, 1600
CHECKPOINT_EVERY_S = 5.0
CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_model_folder(tmp_path_factory.mktemp("model"))


def label(folder, model, rows, *, faults=None, env=None, prefix=(), **config):
    """Run one driver to its end; returns the exit code and the output."""
    folder.mkdir()
    manifest = write_manifest(folder / "manifest.parquet", rows)
    given = {"manifest": manifest, "output": str(folder / "out"), "model": model, "actors": 1, "cpus_per_actor": 0.5}
    driver = start(folder, Settings(config=given | config, faults=faults or {}), env=env, prefix=prefix)
    try:
        return driver.wait(1500), Store(folder / "out")
    finally:
        crash(driver)


def masks(store):
    with open_labels(store.uri) as labels:
        return labels.sql("SELECT * FROM masks ORDER BY video_id, object_id, frame_index").fetchall()


def test_a_long_video_repeats_at_most_one_checkpoint_interval(tmp_path, model):
    rows = [{"video_id": "long", "video_uri": write_clip(tmp_path / "long.mp4", frames=LONG), "prompts": [red()]}]
    code, calm = label(tmp_path / "calm", model, rows)
    assert code == 0
    folder = tmp_path / "struck"
    faults = {"long": [f"kill@{DEATH}"]}
    code, struck = label(folder, model, rows, faults=faults, checkpoint_every_s=CHECKPOINT_EVERY_S)
    assert code == 0
    before, after = frames(folder, "long")
    again = len(before) + len(after) - LONG
    print(f"killed at frame {len(before)} of {LONG}: {again} frames done again, {len(after)} in the second try")
    assert len(before) == DEATH
    assert 0 <= again < DEATH
    lost_s = before[-1] - before[DEATH - again - 1]
    assert lost_s <= CHECKPOINT_EVERY_S + 2, "a checkpoint was due before"
    assert masks(struck) == masks(calm)
    assert not list(struck.list("checkpoints"))


@contextlib.contextmanager
def limited_to(mib, name):
    """A control group of limited memory."""
    group = CGROUP / name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(f"{mib}M")
    except OSError as error:
        pytest.skip(f"needs root and control groups of version 1: {error}")
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def hungry(tmp_path):
    """Two modest videos, and one whose worker swells."""
    clip = write_clip(tmp_path / "clip.mp4", frames=4)
    return [{"video_id": name, "video_uri": clip, "prompts": [red()]} for name in ("one", "hungry", "two")]


def test_a_worker_that_fills_its_container_is_charged_with_memory(tmp_path, model):
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    with limited_to(3000, f"sam2-corpus-test-{os.getpid()}") as group:
        # A container sees its own limit where Ray looks for it.
        enter = f"echo $$ > {group}/cgroup.procs && mount --bind {group} {CGROUP} && exec"
        if subprocess.run(["unshare", "-m", "sh", "-c", f"{enter} true"], check=False).returncode:
            pytest.skip("needs root")
        shell = ["unshare", "-m", "sh", "-c", f'{enter} "$@"', "container"]
        code, store = label(
            tmp_path / "run",
            model,
            hungry(tmp_path),
            faults={"hungry": ["balloon"] * 9},
            env={"RAY_memory_monitor_refresh_ms": "250"},
            prefix=shell,
        )
    assert code == 3
    (failure,) = read_failures(store)
    assert (failure.video_id, failure.failure_class) == ("hungry", "oom")
    assert {row[0] for row in masks(store)} == {"one", "two"}
    assert 2 <= tries(tmp_path / "run")["hungry"] <= 3  # not charged if it had another video beside it


def test_a_worker_killed_for_its_memory_is_charged_with_its_death(tmp_path, model):
    with limited_to(1500, f"sam2-corpus-test-{os.getpid()}") as group:
        code, store = label(
            tmp_path / "run",
            model,
            hungry(tmp_path),
            faults={"hungry": ["confined balloon"] * 9},
            env={"CHAOS_GROUP": str(group)},
        )
    assert code == 3
    (failure,) = read_failures(store)
    assert (failure.video_id, failure.failure_class) == ("hungry", "killed")
    assert {row[0] for row in masks(store)} == {"one", "two"}
