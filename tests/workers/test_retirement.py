"""A video whose objects end when they are absent: rows, checkpoints, label rate and the second pass."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.label import read_options
from pipeline.demo.corpus import write_video
from pipeline.errors import InterruptedLabelingError, UsageError
from pipeline.labels import Part, read_part
from pipeline.labels.key import Parameters
from pipeline.manifest import read_manifest
from pipeline.storage import part_path
from pipeline.workers.labeler import Labeler
from pipeline.workers.task import LabelerSettings, Task
from tests import labelling
from tests.clips import HEIGHT, WIDTH, green, red, write_manifest

FRAMES, GONE, BACK = 26, 6, 18


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red square that is away from frame GONE to BACK, and a green one, at 10 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    noise = np.random.default_rng(0).integers(60, 110, (1, HEIGHT, WIDTH, 3), np.uint8)
    video = np.repeat(noise, FRAMES, axis=0)
    for t in range(FRAMES):
        if not GONE <= t < BACK:
            video[t, 8:30, 6 + t : 28 + t] = (230, 40, 40)
        video[t, 34:56, 68 - t : 90 - t] = (40, 220, 60)
    write_video(path, video, Fraction(10))
    return path


def label(settings: LabelerSettings, clip: Path, *, key: str, **changed: Any) -> Part:
    rows = [{"video_id": "v", "video_uri": str(clip), "prompts": [red(0), red(BACK), green(0)]}]
    video = read_manifest(write_manifest(clip.parent / f"{key}.parquet", rows)).video(0)
    task: Task = replace(labelling.task_of(video, label_key=key), **changed)
    Labeler(settings).label(task)
    return read_part(f"{settings.output}/{part_path('v', key)}")


def frames_of(part: Part, object_id: int) -> list[int]:
    return [row["frame_index"] for row in part.masks.to_pylist() if row["object_id"] == object_id]


def test_rows_end_and_begin_again_also_after_an_interruption(tmp_path: Path, clip: Path) -> None:
    settings = labelling.settings(tmp_path / "out", parameters=Parameters(retire_after_s=0.5), check_drift=True)
    calm = label(settings, clip, key="calm")
    last = GONE - 1 + 5
    assert frames_of(calm, 1) == [*range(last + 1), *range(BACK, FRAMES)]
    assert frames_of(calm, 2) == [*range(FRAMES)]
    numbers = itertools.count(1)
    stopped = Labeler(
        replace(settings, checkpoint_every_s=0.0), on_frame=lambda _: stopped.stop() if next(numbers) == 9 else None
    )
    rows = [{"video_id": "v", "video_uri": str(clip), "prompts": [red(0), red(BACK), green(0)]}]
    video = read_manifest(write_manifest(tmp_path / "m.parquet", rows)).video(0)
    task = replace(labelling.task_of(video, label_key="troubled"), resume=True)
    with pytest.raises(InterruptedLabelingError):
        stopped.label(task)
    again = label(settings, clip, key="troubled", resume=True)
    assert calm.masks.drop(["label_key"]).equals(again.masks.drop(["label_key"]))


def test_labelled_frames_alone_count_with_a_label_rate(tmp_path: Path, clip: Path) -> None:
    settings = labelling.settings(tmp_path / "out", parameters=Parameters(retire_after_s=0.5))
    part = label(settings, clip, key="rate", label_rate="3f")
    assert frames_of(part, 1) == [0, 3, 6, 9, 18, 21, 24]  # present on 3; 9 is the first that is half a second later


def test_the_option_is_in_the_parameters_only_where_it_is_set() -> None:
    given = ["--manifest", "m", "--output", "o", "--model", "embedded"]
    config, _, _ = read_options(given)
    assert config.parameters == Parameters()
    assert "retire" not in config.parameters.to_json()
    off, _, _ = read_options([*given, "--retire-after", "off"])
    assert (off.parameters, off.association.retire_after_s) == (Parameters(), None)
    five, _, _ = read_options([*given, "--retire-after", "5s"])
    assert five.parameters == Parameters(retire_after_s=5.0)
    assert '"retire_after_s":5.0' in five.parameters.to_json()
    assert five.parameters.for_detections() == Parameters().for_detections()
    with pytest.raises(UsageError, match="--retire-after is -1 s; allowed are seconds above 0, or off"):
        Parameters(retire_after_s=-1)
