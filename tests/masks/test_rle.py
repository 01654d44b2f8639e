"""RLE equals pycocotools byte for byte, and survives what it should never be given."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from pipeline.errors import RleError
from pipeline.masks import rle


def reference(mask: np.ndarray) -> str:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode("ascii")


def assert_same(masks: np.ndarray) -> None:
    strings = [reference(mask) for mask in masks]
    assert rle.encode(masks) == strings
    assert rle.encode_columns(np.ascontiguousarray(masks.transpose(0, 2, 1))) == strings
    for counts, mask in zip(strings, masks, strict=True):
        theirs = {"size": list(mask.shape), "counts": counts.encode()}
        assert np.array_equal(rle.decode(counts, mask.shape), mask)
        assert rle.area(counts) == int(coco.area(theirs)) == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        exact = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else None
        assert rle.bbox(counts, mask.shape) == exact


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [(1, 1), (1, 17), (17, 1), (8, 8), (37, 53), (480, 854)])
def test_random_masks(size: tuple[int, int], density: float) -> None:
    assert_same(np.random.default_rng(3).random((3, *size)) < density)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (64, 48), (720, 1280)])
def test_empty_full_and_one_pixel(size: tuple[int, int]) -> None:
    masks = np.zeros((6, *size), np.bool_)
    masks[1] = True
    masks[2, 0, 0] = masks[3, -1, -1] = masks[4, 0, -1] = masks[5, -1, 0] = True
    assert_same(masks)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=24)))
@settings(max_examples=80)
def test_any_mask(masks: np.ndarray) -> None:
    assert_same(masks)


def test_stripes_along_columns_and_rows() -> None:
    masks = np.zeros((4, 30, 40), np.bool_)
    masks[0, ::2] = masks[1, :, ::2] = masks[2, :, 5:7] = masks[3, 5:7] = True
    assert_same(masks)


def test_an_8k_mask_is_encoded_and_decoded() -> None:
    y, x = np.ogrid[:4320, :7680]
    blob = ((y - 2000) ** 2 + (x - 4000) ** 2 < 1500**2) & ((x // 37 + y // 41) % 5 > 0)
    counts = reference(blob)
    assert rle.encode(blob[None]) == [counts]
    assert np.array_equal(rle.decode(counts, blob.shape), blob)
    assert rle.encode(np.ones((1, 4320, 7680), np.bool_)) == [
        rle.compress(np.array([0, 4320 * 7680]), np.array([2]))[0]
    ]


def test_real_masks(shared) -> None:
    video = json.loads((shared / "videos/sav_000001_manual.json").read_text())
    for frame in video["masklet"][::20]:
        masks = np.stack([rle.decode(obj["counts"], obj["size"]) for obj in frame])
        assert rle.encode(masks) == [obj["counts"] for obj in frame]


def test_any_layout_and_any_value_above_zero() -> None:
    mask = np.random.default_rng(0).random((2, 30, 50)) < 0.3
    expected = [reference(one) for one in mask]
    assert rle.encode(np.asfortranarray(mask)) == expected
    assert rle.encode(np.ascontiguousarray(mask.transpose(0, 2, 1)).transpose(0, 2, 1)) == expected
    assert rle.encode(mask.astype(np.uint8) * 255) == expected
    assert rle.encode(mask * np.random.default_rng(1).integers(1, 255, mask.shape).astype(np.uint8)) == expected
    assert rle.encode(mask[:, ::2, ::-1]) == [reference(one) for one in mask[:, ::2, ::-1]]


def test_iou_of_runs_equals_iou_of_pixels() -> None:
    rng = np.random.default_rng(5)
    for size in ((1, 1), (7, 5), (40, 31)):
        masks = rng.random((6, *size)) < [[[0.0]], [[1.0]], [[0.2]], [[0.5]], [[0.5]], [[0.9]]]
        counts = rle.encode(masks)
        for one, a in zip(masks, counts, strict=True):
            for other, b in zip(masks, counts, strict=True):
                either = (one | other).sum()
                assert rle.iou(a, b, size) == ((one & other).sum() / either if either else 1)


def test_no_masks_give_no_strings_and_a_single_mask_is_refused() -> None:
    assert rle.encode(np.zeros((0, 4, 5), np.bool_)) == []
    assert rle.encode_columns(np.zeros((0, 4, 5), np.bool_)) == []
    with pytest.raises(ValueError, match=r"\(N, H, W\)"):
        rle.encode(np.zeros((4, 5), np.bool_))


def test_a_table_row_becomes_a_coco_rle_object() -> None:
    row = {"height": np.int32(4), "width": np.int32(5), "counts": "d0", "area": 0}
    assert rle.to_coco(row) == {"size": [4, 5], "counts": "d0"}


GOOD = reference(np.eye(20, dtype=np.bool_))

HOSTILE = {
    "a size beyond memory": (GOOD, (1 << 40, 1 << 40)),
    "a size beyond the limit": (GOOD, (70_000, 70_000)),
    "a negative size": (GOOD, (-20, -20)),
    "a size of one number": (GOOD, (20,)),
    "a size of words": (GOOD, ("a", "b")),
    "a size of infinities": (GOOD, (float("inf"), 1)),
    "no size": (GOOD, None),
    "another size": (GOOD, (20, 21)),
    "an empty string": ("", (20, 20)),
    "truncated": (GOOD[:-1], (20, 20)),
    "truncated within a number": (GOOD + "o", (20, 20)),
    "a character below": (GOOD[:3] + "!" + GOOD[3:], (20, 20)),
    "a character above": (GOOD[:3] + "~" + GOOD[3:], (20, 20)),
    "not ASCII": (GOOD[:3] + "é" + GOOD[3:], (20, 20)),
    "a number without end": ("o" * 5000 + "1", (20, 20)),
    "a huge count": ("ooooool7", (20, 20)),
    "a negative count": ("A0", (20, 20)),
    "no counts": (None, (20, 20)),
    "a list of counts": ([400], (20, 20)),
    "a number": (5, (20, 20)),
    "a string far longer than the mask": ("0" * 2_000_000, (20, 20)),
}


@pytest.mark.parametrize(("counts", "size"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input_is_refused_without_a_large_allocation(counts: object, size: object) -> None:
    tracemalloc.start()
    try:
        for read in (rle.decode, rle.bbox):
            with pytest.raises(RleError):
                read(counts, size)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=40), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=150)
def test_arbitrary_text_decodes_or_is_refused(counts: str, height: int, width: int) -> None:
    try:
        mask = rle.decode(counts, (height, width))
    except RleError:
        return
    assert mask.shape == (height, width)
