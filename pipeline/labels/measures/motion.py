"""Measures of a mask against the frame's edge and its object's previous mask, from stored columns alone."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]


def add_motion(rows: pa.Table, *, height: int, width: int) -> pa.Table:
    """Fill these columns of one object's mask rows, which are in frame order.

    * touches_border: the box reaches an edge of the frame. Null where the mask is empty.
    * area_change = log2(area / area before): 1 is twice the size, -1 half of it.
    * center_shift: distance of the two boxes' centres over the mean of the two boxes' diagonals.

    `before` is the object's row of the frame before, whatever the direction it was tracked in; the last two are null
    where there is no such row or where either mask is empty.
    """
    box = np.stack([_floats(rows, name) for name in ("x_min", "y_min", "x_max", "y_max")])
    area = _floats(rows, "area")
    frame = rows.column("frame_index").to_numpy()
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
    columns = {
        "touches_border": pa.array(touches, mask=~seen),
        "area_change": pa.array(change, from_pandas=True),
        "center_shift": pa.array(shift, from_pandas=True),
    }
    for name, values in columns.items():
        if (place := rows.schema.get_field_index(name)) >= 0:
            field = rows.schema.field(place)
            rows = rows.set_column(place, field, values.cast(field.type))
    return rows


def _floats(rows: pa.Table, name: str) -> Floats:
    return rows.column(name).cast(pa.float64()).to_numpy()
