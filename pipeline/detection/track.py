"""Tracking one video from its detections, without Ray or storage."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pyarrow as pa

from pipeline.detection.association import Associator
from pipeline.detection.looks import looks_of
from pipeline.detection.thresholds import Association
from pipeline.labels.key import CONDITIONING_FRAMES
from pipeline.tracking import (
    Direction,
    Engine,
    FrameSource,
    MaskPostprocessor,
    Propagation,
    TrackedFrame,
    TrackedObject,
)


def associator_of(
    detections: pa.Table,
    settings: Association,
    *,
    source: FrameSource,
    index_at: Callable[[list[float]], list[int | None]],
    time_of: Callable[[int], float],
    postprocessor: MaskPostprocessor | None = None,
    objects: Sequence[TrackedObject] = (),
) -> Associator:
    """Who decides on the objects of a video from its detections.

    Args:
        detections: the video's, in the columns of `table.GIVEN`.
        settings: which detections count.
        source: the video's frames.
        index_at: the frames on screen at times in seconds; None where there is none.
        time_of: the time in seconds of a frame that is being tracked.
        postprocessor: makes masks of logits.
        objects: prompted objects, whose ids are taken.
    """
    size, made = (source.height, source.width), postprocessor or MaskPostprocessor()
    looks, dropped = looks_of(detections, size=size, index_at=index_at, settings=settings)

    def masks_of(frame: TrackedFrame) -> tuple[Any, list[float]]:
        with frame.ready.reading(frame.logits, frame.predicted_iou) if frame.ready else nullcontext():
            masks = made.masks(frame.logits, height=size[0], width=size[1]).numpy()
            return masks, frame.predicted_iou.tolist()

    taken = [o.object_id for o in objects]
    associator = Associator(looks, settings, size=size, masks_of=masks_of, time_of=time_of, taken=taken)
    associator.dropped.update(dropped)
    return associator


def track_detections(
    engine: Engine,
    source: FrameSource,
    detections: pa.Table,
    *,
    fps: float,
    settings: Association | None = None,
    direction: Direction = "forward",
    max_conditioning_frames: int = CONDITIONING_FRAMES,
) -> tuple[Propagation, Associator]:
    """The tracked frames of a video whose objects come from its detections, and who decides on them.

    Args:
        engine: a loaded model.
        source: the video's frames.
        detections: the video's, in the columns of `table.GIVEN`.
        fps: the video's constant frame rate.
        settings: which detections count.
        direction: forward, or both: objects are also followed back from their start.
        max_conditioning_frames: prompted frames that a frame attends to.
    """
    associator = associator_of(
        detections,
        settings or Association(),
        source=source,
        index_at=lambda times: [round(time * fps) for time in times],
        time_of=lambda frame: frame / fps,
    )
    frames = engine.propagate(
        source, [], direction=direction, max_conditioning_frames=max_conditioning_frames, decider=associator
    )
    return frames, associator
