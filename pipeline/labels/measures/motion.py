"""Measures of a mask against the frame's edge and the object's previous mask, from stored columns alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]


def motion(
    rows: pa.Table, *, height: int, width: int, labelled_frames: Sequence[int] | None = None
) -> dict[str, pa.Array]:
    """Columns of the masks table from the stored rows of one object, which are in frame order.

    * touches_border: whether the box reaches an edge of the frame. Null where the mask is empty.
    * area_change = log2(area / previous area): 1 is twice the area, -1 half of it.
    * center_shift: distance between the centres of the two boxes over the mean of their diagonals.

    The previous area and box are those of the object's row of the preceding labelled frame, in either direction of
    tracking; all frames are labelled unless `labelled_frames` names them, ascending;
    area_change and center_shift are null where there is no such row or where either mask is empty.
    """
    box = np.stack([_floats(rows, name) for name in ("x_min", "y_min", "x_max", "y_max")])
    area = _floats(rows, "area")
    frame = rows.column("frame_index").to_numpy()
    if labelled_frames is not None:
        frame = np.searchsorted(labelled_frames, frame)
    seen = ~np.isnan(box[0])
    touches = (box[0] <= 0) | (box[1] <= 0) | (box[2] >= width) | (box[3] >= height)
    valid = np.zeros(len(frame), np.bool_)
    valid[1:] = (np.diff(frame) == 1) & seen[1:] & seen[:-1] & (area[1:] > 0) & (area[:-1] > 0)
    at = np.flatnonzero(valid)
    change, shift = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    change[at] = np.log2(area[at] / area[at - 1])
    center = (box[:2] + box[2:]) / 2
    diagonal = np.hypot(*(box[2:] - box[:2]))
    moved = np.hypot(*(center[:, at] - center[:, at - 1]))
    shift[at] = moved / np.maximum((diagonal[at] + diagonal[at - 1]) / 2, 1)
    return {
        "touches_border": pa.array(touches, mask=~seen),
        "area_change": pa.array(change, from_pandas=True),
        "center_shift": pa.array(shift, from_pandas=True),
    }


def _floats(rows: pa.Table, name: str) -> Floats:
    return rows.column(name).cast(pa.float64()).to_numpy()
