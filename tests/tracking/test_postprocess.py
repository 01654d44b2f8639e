"""Logits to masks: enlarging, holes, sprinkles, overlap, half precision."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.masks.components import drop_sprinkles, fill_holes
from pipeline.tracking import Engine, MaskPostprocessor, TrackedFrame
from tests.tracking import compare, models
from tests.tracking import videos as v
from tests.tracking.clips import HEIGHT, WIDTH, clips

TOUCHING = np.ones((3, 3))
SURE = 0.7


@pytest.mark.parametrize("seed", range(20))
def test_small_areas_are_those_of_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((rng.integers(1, 4), rng.integers(1, 30), rng.integers(1, 30))) < rng.random()
    limit = rng.integers(0, 10)
    for mask, kept, filled in zip(masks, drop_sprinkles(masks, limit), fill_holes(masks, limit), strict=True):
        label, _ = ndimage.label(mask, TOUCHING)
        np.testing.assert_array_equal(kept, mask & (np.bincount(label.ravel())[label] > limit))
        label, _ = ndimage.label(~mask, TOUCHING)
        np.testing.assert_array_equal(filled, mask | (np.bincount(label.ravel())[label] <= limit))


def test_holes_are_filled_before_sprinkles_are_dropped() -> None:
    logits = torch.full((1, 40, 40), -5.0)
    logits[0, 5:15, 5:15] = 5
    logits[0, 9:11, 9:11] = -5  # a hole of 4
    logits[0, 30:32, 30:32] = 5  # a sprinkle of 4
    logits[0, 20:23, 20:23] = 5  # 9 with its hole
    logits[0, 21, 21] = -5
    finish = MaskPostprocessor(max_hole_area=4, max_sprinkle_area=8)
    (mask,) = finish.masks(logits, height=40, width=40)
    assert mask[5:15, 5:15].all()
    assert mask[20:23, 20:23].all()
    assert not mask[30:32, 30:32].any()
    (untouched,) = MaskPostprocessor().masks(logits, height=40, width=40)
    assert torch.equal(untouched, logits[0] > 0)


def test_a_contested_pixel_goes_to_the_highest_logit() -> None:
    logits = torch.tensor([[[1.0, 2.0, -1.0]], [[3.0, 1.0, -2.0]]])
    masks = MaskPostprocessor(non_overlapping=True).masks(logits, height=1, width=3)
    assert masks.tolist() == [[[False, True, False]], [[True, False, False]]]


def test_the_threshold_is_exclusive() -> None:
    logits = torch.tensor([[[0.5, 1.0, 1.5]]])
    assert MaskPostprocessor(mask_threshold=1.0).masks(logits, height=1, width=3).tolist() == [[[False, False, True]]]


def overlaps(one: Iterable[TrackedFrame], other: Iterable[TrackedFrame]) -> tuple[list[float], list[float]]:
    """IoU of each mask with its counterpart, and of those alone that the first is sure of.

    A mask that the model itself doubts is about to be lost, and any rounding may decide when.
    """
    every, sure = [], []
    for a, b in zip(one, other, strict=True):
        left, right = (MaskPostprocessor().masks(f.logits, height=HEIGHT, width=WIDTH) for f in (a, b))
        union = (left | right).sum((1, 2))
        ious = [float(i / u) if u else 1.0 for i, u in zip((left & right).sum((1, 2)), union, strict=True)]
        every += ious
        sure += [iou for iou, held in zip(ious, a.predicted_iou.tolist(), strict=True) if not held < SURE]
    return every, sure


@pytest.mark.parametrize("count", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_bfloat16_masks_agree_with_float32(count: int) -> None:
    sam2 = models.embedded()
    every, sure = [], []
    for video, objects in clips(count, frames=12):
        source = v.MemorySource(sam2, video)
        runs = (Engine(sam2, dtype=dtype).propagate(source, objects) for dtype in (torch.float32, torch.bfloat16))
        for ious, more in zip((every, sure), overlaps(*runs), strict=True):
            ious += more
    print(f"\nmean IoU of bf16 masks with fp32 ones: {np.mean(every):.4f} of {len(every)} masks, ", end="")
    print(f"{np.mean(sure):.4f} of the {len(sure)} with a predicted IoU of {SURE} and more")
    assert len(sure) > len(every) / 2
    assert np.mean(sure) >= 0.99
    assert np.mean(every) >= 0.99


def test_real_clips_equal_transformers() -> None:
    for video, objects in clips(1, frames=8):
        compare.to_transformers(models.embedded(), video, objects, "forward").check()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_masks(dtype: torch.dtype) -> None:
    from pipeline.tracking.model import load

    on_gpu = load("embedded", device="cuda")
    sure = []
    for video, objects in clips(2, frames=12):
        source = v.MemorySource(models.embedded(), video)
        expected = Engine(models.embedded()).propagate(source, objects)
        sure += overlaps(expected, Engine(on_gpu, dtype=dtype).propagate(source, objects))[1]
    assert np.mean(sure) >= (0.999 if dtype == torch.float32 else 0.99)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_on_a_gpu_never_waits() -> None:
    from pipeline.tracking.model import load

    on_gpu = load("embedded", device="cuda")
    source = v.MemorySource(on_gpu, v.video(12))
    objects = [v.tracked(n, f0=v.prompt("click")) for n in range(4)]
    frames = Engine(on_gpu).propagate(source, objects)
    for _ in range(3):
        next(frames)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in frames:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
