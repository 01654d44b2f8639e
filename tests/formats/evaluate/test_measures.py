"""J and F equal a slow, literal reading of their definitions."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import RleError
from pipeline.formats.evaluate import (
    boundary_f,
    boundary_f_of_masks,
    j_and_f,
    jaccard,
    jaccard_of_masks,
    statistics,
)
from pipeline.masks import rle


def slow_jaccard(a: np.ndarray, b: np.ndarray) -> float:
    inside_a, inside_b = set(zip(*np.nonzero(a), strict=True)), set(zip(*np.nonzero(b), strict=True))
    return len(inside_a & inside_b) / len(inside_a | inside_b) if inside_a | inside_b else 1.0


def slow_outline(mask: np.ndarray) -> list[tuple[int, int]]:
    height, width = mask.shape
    outline = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in neighbours):
                outline.append((y, x))
    return outline


def slow_boundary_f(a: np.ndarray, b: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.hypot(*a.shape))
    line_a, line_b = slow_outline(a), slow_outline(b)
    if not line_a or not line_b:
        return float(not line_a and not line_b)

    def near(line: list[tuple[int, int]], other: list[tuple[int, int]]) -> float:
        others = np.array(other)
        hits = sum(bool((((others - point) ** 2).sum(1) <= radius * radius).any()) for point in line)
        return hits / len(line)

    precision, recall = near(line_b, line_a), near(line_a, line_b)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def assert_equal(a: np.ndarray, b: np.ndarray) -> None:
    counts_a, counts_b = rle.encode(np.stack([a, b]))
    size = a.shape
    j, f = slow_jaccard(a, b), slow_boundary_f(a, b)
    assert jaccard(counts_a, counts_b, size) == pytest.approx(j, abs=1e-12)
    assert jaccard_of_masks(a, b) == pytest.approx(j, abs=1e-12)
    assert boundary_f(counts_a, counts_b, size) == pytest.approx(f, abs=1e-12)
    assert boundary_f(counts_b, counts_a, size) == pytest.approx(f, abs=1e-12)
    assert boundary_f_of_masks(a, b) == pytest.approx(f, abs=1e-12)
    assert j_and_f(counts_a, counts_b, size) == pytest.approx((j, f), abs=1e-12)


sizes = st.tuples(st.integers(1, 16), st.integers(1, 16))
pairs = sizes.flatmap(lambda size: st.tuples(hnp.arrays(np.bool_, size), hnp.arrays(np.bool_, size)))


@given(pairs)
@settings(max_examples=80)
def test_random_pairs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert_equal(*pair)


@pytest.mark.parametrize("size", [(60, 110), (130, 60), (1, 50), (50, 1)])
def test_empty_full_and_shifted(size: tuple[int, int]) -> None:
    empty, full = np.zeros(size, np.bool_), np.ones(size, np.bool_)
    y, x = np.mgrid[: size[0], : size[1]]
    disk = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < min(size) ** 2 / 9
    corner = np.roll(disk, (size[0] // 2, size[1] // 2), axis=(0, 1))
    for a in (empty, disk):
        for b in (empty, full, disk, np.roll(disk, 2, axis=1), np.roll(disk, 5, axis=0), corner):
            assert_equal(a, b)


def test_speckle_over_the_whole_frame() -> None:
    rng = np.random.default_rng(0)
    assert_equal(rng.random((120, 210)) < 0.01, rng.random((120, 210)) < 0.02)


def test_real_masks(shared) -> None:
    video = json.loads((shared / "videos/sav_000001_manual.json").read_text())
    masks = [[rle.decode(one["counts"], one["size"])[::4, ::4] for one in video["masklet"][i]] for i in (0, 1, 40, 119)]
    for k, other in ((0, 1), (1, 2), (2, 1), (3, 3), (4, 2)):
        assert_equal(masks[0][k], masks[other][k])


def test_statistics_as_davis_counts_them() -> None:
    values = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    result = statistics(values)  # quarters end at frames 1, 3, 4, 6 and 8 (rounded, both ends counted)
    assert result.mean == pytest.approx(0.65)
    assert result.recall == pytest.approx(5 / 8)
    assert result.decay == pytest.approx(values[0:3].mean() - values[5:8].mean())
    assert statistics(np.ones(1)).decay == 0
    assert math.isnan(statistics(np.empty(0)).mean)
    long = statistics(np.linspace(1, 0, 1000))
    assert long.decay == pytest.approx(0.75, abs=0.01)


def test_masks_of_other_sizes_and_broken_ones_are_refused() -> None:
    small, large = rle.encode(np.ones((1, 4, 5), np.bool_))[0], rle.encode(np.ones((1, 6, 5), np.bool_))[0]
    for measure in (jaccard, boundary_f, j_and_f):
        with pytest.raises(RleError, match="cover 30 pixels, not the 20 of 4 x 5"):
            measure(small, large, (4, 5))
        with pytest.raises(RleError):
            measure("!", "!", (4, 5))
    with pytest.raises(ValueError, match="cannot be compared"):
        boundary_f_of_masks(np.ones((3, 3), np.bool_), np.ones((3, 4), np.bool_))
