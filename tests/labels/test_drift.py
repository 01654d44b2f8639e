"""The second pass: which masks prompt it, and how its masks are compared with those of the first."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.labels.measures.drift import ReverseSeed, agreement, paired, reverse_seeds
from pipeline.masks import rle

SIZE = (6, 8)


def box(x0, x1):
    mask = np.zeros((1, *SIZE), bool)
    mask[0, 1:5, x0:x1] = True
    return rle.encode(mask)[0]


EMPTY = rle.encode(np.zeros((1, *SIZE), bool))[0]


def rows(counts, *, first=0, prompted=()):
    frames = list(range(first, first + len(counts)))
    return pa.table(
        {
            "frame_index": pa.array(frames, pa.int32()),
            "is_prompted": [t in prompted for t in frames],
            "counts": counts,
            "area": [rle.area(each) for each in counts],
            "agreement": pa.nulls(len(counts), pa.float32()),
        }
    )


def test_the_second_pass_starts_from_the_last_visible_mask():
    made = [
        (1, rows([box(0, 2), box(1, 3), EMPTY], first=4)),
        (2, rows([EMPTY, EMPTY])),
        (3, rows([box(0, 2), EMPTY])),
        (4, rows([EMPTY, box(1, 3), box(2, 4)])),
    ]
    assert reverse_seeds(made, backward=False) == [
        ReverseSeed(object_id=1, frame=5, counts=box(1, 3), end=4),
        ReverseSeed(object_id=4, frame=2, counts=box(2, 4), end=0),
    ]
    assert reverse_seeds(made, backward=True) == [
        ReverseSeed(object_id=1, frame=4, counts=box(0, 2), end=6),
        ReverseSeed(object_id=3, frame=0, counts=box(0, 2), end=1),
        ReverseSeed(object_id=4, frame=1, counts=box(1, 3), end=2),
    ]


def test_each_appearance_of_an_object_has_its_own_second_pass():
    made = [(1, rows([box(0, 2), box(1, 3), EMPTY, box(2, 4), box(3, 5), EMPTY, EMPTY]))]
    assert reverse_seeds(made, backward=False, begins={1: [2, 5]}) == [
        ReverseSeed(object_id=1, frame=1, counts=box(1, 3), end=0),
        ReverseSeed(object_id=1, frame=4, counts=box(3, 5), end=2),
    ]


def test_agreement_is_the_iou_of_the_two_masks_of_a_frame():
    made = [(1, rows([box(0, 2), box(0, 4), EMPTY, box(0, 2)])), (2, rows([box(0, 1)])), (5, rows([box(0, 2), EMPTY]))]
    second_pass = [(1, rows([box(0, 2), box(2, 6), EMPTY, box(0, 2)], prompted=[3])), (5, rows([EMPTY, EMPTY]))]
    found = {
        object_id: second and agreement(first, second, size=SIZE)["agreement"].to_pylist()
        for object_id, first, second in paired(made, second_pass)
    }
    assert found == {1: [1, pytest.approx(2 / 6), 1, None], 2: None, 5: [0, 1]}
