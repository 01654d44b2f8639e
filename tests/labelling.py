"""Labelling in this process: settings as a driver would send them, and tasks."""

from collections.abc import Mapping
from typing import Any

from pipeline.labels.key import Parameters
from pipeline.labels.rows import Columns, box_columns
from pipeline.manifest import Video
from pipeline.storage import Storage
from pipeline.tracking.modelfiles import resolve
from pipeline.video.content import content_version
from pipeline.workers.task import LabelerSettings, Task


def settings(output: object, **changed: Any) -> LabelerSettings:
    """One lane of the embedded model, or of `model`, without checkpoints."""
    usual: dict[str, Any] = {
        "output": str(output),
        "storage": Storage(),
        "model": "embedded",
        "revision": None,
        "device": "cpu",
        "threads": 1,
        "lanes": 1,
        "parameters": Parameters(),
        "on_damaged": "fail",
        "checkpoint_every_s": 1e9,
        "run_id": "run",
    }
    given = usual | changed
    return LabelerSettings(weights_digest=resolve(given["model"]).digest, **given)


def task_of(video: Video, *, label_key: str = "key", version: str | None = None) -> Task:
    """A first try at a video; its version is that of the content at its URI."""
    if version is None:
        found = content_version(video.video_uri)
        assert found is not None, f"{video.video_uri} is not there"
        version = found.token()
    return Task(video=video, label_key=label_key, version=version, prompts_digest="p", attempt=1, isolate=False)


def mask_rows(frame_index: int, time_s: float, columns: Mapping[str, Any]) -> Columns:
    """Columns of one frame's made-up masks: adds its time, is_present, and the columns of `boxes`, if given."""
    made = dict(columns)
    count = len(made["object_id"])
    return {
        "frame_index": [frame_index] * count,
        "time_s": [time_s] * count,
        "is_present": [area > 0 for area in made["area"]],
        **box_columns(made.pop("boxes", [None] * count)),
        **made,
    }
