"""The detections of one video in a worker: read, checked against the plan, and handed to who decides on objects."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow.compute as pc

from pipeline.detection import VideoDetections, read_video
from pipeline.detection.association import Associator
from pipeline.detection.thresholds import Association
from pipeline.detection.track import associator_of
from pipeline.errors import PromptError, StorageError
from pipeline.manifest import Video, prompts_to_json
from pipeline.storage import Storage, open_source, redact
from pipeline.tracking import MaskPostprocessor, TrackedObject
from pipeline.video import VideoReader
from pipeline.workers.chosen import ChosenFrames
from pipeline.workers.frames import ModelFrames

MakeDecider = Callable[[ModelFrames], Associator]
"""Makes who decides on the objects of a video whose frames are being read."""


def read_planned(video: Video, digest: str, storage: Storage) -> VideoDetections:
    """The video's detections.

    Raises:
        StorageError: They cannot be read, or are not those of the plan.
    """
    assert video.detections is not None
    found = read_video(video.detections, video.video_id, open_file=lambda uri: open_source(uri, storage=storage)[0])
    if found.digest != digest:
        raise StorageError(
            f"{redact(video.detections)}: the detections of {video.video_id!r} have changed since the run was planned; "
            "the next run labels it"
        )
    return found


def decider_maker(
    detections: VideoDetections,
    association: Association,
    *,
    reader: VideoReader,
    objects: Sequence[TrackedObject],
    postprocessor: MaskPostprocessor,
    chosen: ChosenFrames | None = None,
) -> MakeDecider:
    """Makes an Associator for each attempt to continue from a checkpoint.

    Args:
        detections: the video's.
        association: which of them count.
        reader: the open video.
        objects: those of prompts.
        postprocessor: makes masks of logits.
        chosen: the labelled frames, by whose positions the frames are read; None for all.
    """

    def index_at(times: list[float]) -> list[int | None]:
        return [_index_at(reader, time) for time in times]

    def make(frames: ModelFrames) -> Associator:
        return associator_of(
            detections.table,
            association,
            source=frames,
            index_at=index_at,
            time_of=lambda frame: frames.times[frame if chosen is None else chosen.position(frame)],
            postprocessor=postprocessor,
            objects=objects,
        )

    return make


def look_frames(detections: VideoDetections, reader: VideoReader) -> set[int]:
    """The frames of a video on which its detector looked."""
    frames = set(detections.table["frame_index"].drop_null().to_pylist())
    timed = detections.table.filter(pc.is_null(detections.table["frame_index"]))
    return frames | {
        index for time in set(timed["time_s"].to_pylist()) if (index := _index_at(reader, time)) is not None
    }


def decided_columns(video: Video, associator: Associator, bad_rows: int) -> dict[str, Any]:
    """Columns of VIDEOS that say what was decided: all prompts, and the detections that were dropped by reason."""
    given = json.loads(prompts_to_json(video.prompts))
    dropped = {**associator.dropped, **({"bad_row": bad_rows} if bad_rows else {})}
    return {
        "prompts": json.dumps([*given, *associator.prompts], separators=(",", ":"), ensure_ascii=False),
        "dropped_detections": json.dumps(dict(sorted(dropped.items())), separators=(",", ":")),
    }


def categories_of(video: Video, associator: Associator | None) -> dict[int, dict[str, Any]]:
    """The category column of MASKLETS by object id."""
    found = {p.object_id: {"category": p.category} for p in video.prompts if p.category}
    decided = associator.prompts if associator else []
    return found | {p["object_id"]: {"category": p["category"]} for p in decided if p.get("category")}


def _index_at(reader: VideoReader, time_s: float) -> int | None:
    try:
        return reader.index_at([time_s])[0]
    except PromptError:  # after the last frame
        return None
