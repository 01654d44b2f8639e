"""The masks table's rows: every column is measured in one place."""

import numpy as np
import pyarrow as pa

from pipeline.labels import MASKS, PartBuilder, read_part
from pipeline.labels.measures.frames import LogitCounts
from pipeline.labels.rows import KEY_COLUMNS, FrameMasks, measure_frame, measure_masklet

SIZE = (6, 8)
COMPARED = {"touches_border", "area_change", "center_shift", "agreement"}


def frame(frame_index):
    """Two objects that overlap, the second of them empty on frame 0."""
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 1:4, frame_index : frame_index + 3] = True
    masks[1, 2:5, 2:6] = frame_index > 0
    area = masks.sum((1, 2)).astype(np.float32)
    shared = np.einsum("ahw,bhw->ab", masks, masks, dtype=np.float32)
    return FrameMasks(
        frame_index=frame_index,
        time_s=frame_index / 25,
        object_ids=(7, 9),
        is_prompted=(frame_index == 0, False),
        masks=masks,
        object_logit=np.array([5, np.nan], np.float32),
        predicted_iou=np.array([0.9, np.nan], np.float32),
        logit_counts=LogitCounts(low=area + 2, high=area, shared=shared, masks=masks),
    )


def test_each_column_of_masks_is_measured_in_exactly_one_step():
    measured = set(measure_frame(frame(1)))
    assert not measured & COMPARED
    assert measured | COMPARED | set(KEY_COLUMNS) == set(MASKS.names)
    rows = pa.table({name: pa.nulls(0, MASKS.field(name).type) for name in MASKS.names})
    before = rows.schema
    assert measure_masklet(rows, rows, height=6, width=8).schema.equals(before)


def test_measured_rows_fill_every_column_of_a_part():
    with PartBuilder("v", label_key="k", height=6, width=8) as builder:
        for index in range(3):
            builder.add(measure_frame(frame(index)))
        part = builder.finish({"outcome": "labelled", "uri": "v.mp4"})
    assert isinstance(part, bytes)
    rows = read_part(part).masks
    nullable = {"agreement"}  # there was no second pass
    assert {name for name in rows.column_names if rows[name].null_count == len(rows)} == nullable
    assert rows["overlap_object_id"].to_pylist() == [None, 9, 9, None, 7, 7]
    assert rows["stability"].to_pylist()[3] == 0.0
    assert rows["object_logit"].to_pylist()[3:] == [None] * 3


def test_a_frame_of_the_second_pass_has_masks_and_no_logit_measures():
    first = frame(1)
    second = FrameMasks(**{**vars(first), "logit_counts": None})
    assert set(measure_frame(first)) - set(measure_frame(second)) == {
        "stability",
        "parts",
        "overlap",
        "overlap_object_id",
    }
