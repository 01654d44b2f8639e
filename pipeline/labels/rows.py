"""The rows of the masks table: where each column of MASKS is measured.

A column is measured in one of two steps, and a new column is one value more in the function that measures it:

* `measure_frame`: while the masks of the frame are in memory (place, shape, scores, the low-resolution logits).
* `measure_masklet`: from the stored rows of one object, once all its frames are known (motion, agreement).

The columns of KEY_COLUMNS have one value per video; `PartBuilder` writes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.labels.measures.drift import agreement
from pipeline.labels.measures.frames import LogitCounts, measure_logits
from pipeline.labels.measures.motion import motion
from pipeline.masks import rle

KEY_COLUMNS = ("video_id", "label_key", "height", "width")
MEASURED_LATER = ("touches_border", "area_change", "center_shift", "agreement")
"""Columns that `measure_masklet` measures."""

Columns = Mapping[str, Sequence[Any] | npt.NDArray[Any]]
"""Columns of MASKS of one frame, one value per object; an absent nullable column is null."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameMasks:
    """What the rows of one frame are measured from: O tracked objects, in host memory."""

    frame_index: int
    time_s: float
    """Presentation time in seconds."""
    object_ids: tuple[int, ...]
    is_prompted: tuple[bool, ...]
    masks: npt.NDArray[np.bool_]
    """(O, H, W), postprocessed, at the displayed resolution."""
    object_logit: npt.NDArray[np.float32]
    """(O,), NaN where a mask prompt sets it."""
    predicted_iou: npt.NDArray[np.float32]
    """(O,), NaN where a mask prompt sets it."""
    logit_counts: LogitCounts | None = None
    """Counts of the low-resolution logits; None in the second pass, of which only the masks are compared."""


def measure_frame(frame: FrameMasks) -> Columns:
    """The columns of MASKS that are measured from one frame."""
    return {**_place(frame), **_shape(frame), **_scores(frame), **_logits(frame)}


def measure_masklet(
    rows: pa.Table,
    second_pass: pa.Table | None,
    *,
    height: int,
    width: int,
    labelled_frames: Sequence[int] | None = None,
) -> pa.Table:
    """One object's mask rows with the columns that compare frames filled in; a column that `rows` lacks is left out.

    Args:
        rows: the object's rows in frame order.
        second_pass: its rows of the second pass in frame order, if there was one.
        height, width: the displayed frame, in pixels.
        labelled_frames: the labelled frames, ascending; None for all frames of the video.
    """
    measured = motion(rows, height=height, width=width, labelled_frames=labelled_frames)
    if second_pass is not None:
        measured |= agreement(rows, second_pass, size=(height, width))
    for name, values in measured.items():
        if (at := rows.schema.get_field_index(name)) >= 0:
            field = rows.schema.field(at)
            rows = rows.set_column(at, field, values.cast(field.type))
    return rows


def shape_columns(counts: Sequence[str], size: tuple[int, int]) -> dict[str, list[Any]]:
    """The masks as COCO RLE, with their areas and boxes; null boxes for empty masks.

    Args:
        counts: COCO RLE of each object's mask.
        size: height and width of the masks.
    """
    boxes = [rle.bbox(each, size) for each in counts]
    return {"counts": list(counts), "area": [rle.area(each) for each in counts], **box_columns(boxes)}


def box_columns(boxes: Sequence[Sequence[int] | None]) -> dict[str, list[int | None]]:
    """Boxes (x_min, y_min, x_max, y_max), None for an empty mask, as four columns."""
    return {
        name: [None if box is None else int(box[at]) for box in boxes]
        for at, name in enumerate(("x_min", "y_min", "x_max", "y_max"))
    }


def _place(frame: FrameMasks) -> Columns:
    count = len(frame.object_ids)
    return {
        "object_id": frame.object_ids,
        "frame_index": [frame.frame_index] * count,
        "time_s": [frame.time_s] * count,
        "is_prompted": frame.is_prompted,
    }


def _shape(frame: FrameMasks) -> Columns:
    _, height, width = frame.masks.shape
    columns = shape_columns(rle.encode(frame.masks), (height, width))
    return {**columns, "is_present": [area > 0 for area in columns["area"]]}


def _scores(frame: FrameMasks) -> Columns:
    return {"object_logit": frame.object_logit, "predicted_iou": frame.predicted_iou}


def _logits(frame: FrameMasks) -> Columns:
    return {} if frame.logit_counts is None else measure_logits(frame.logit_counts, frame.object_ids)
