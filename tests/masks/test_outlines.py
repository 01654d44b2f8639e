"""Outlines hold exactly their masks, whatever their shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from pipeline.formats.evaluate import jaccard_of_masks
from pipeline.masks import joining, rle
from pipeline.masks import outlines as new_outlines
from pipeline.masks.joining import joined
from pipeline.masks.outlines import fill, fill_through_centres, outlines, polygon, signed_area, simplified
from tests.masks import reference_outlines
from tests.masks.ragged import ragged

masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda size: hnp.arrays(np.bool_, size))


@given(masks)
@settings(max_examples=80)
def test_outlines_give_back_the_mask(mask: np.ndarray) -> None:
    rings = outlines(mask)
    assert np.array_equal(fill(rings, mask.shape), mask)
    if rings:
        assert np.array_equal(fill([joined(rings)], mask.shape), mask)
    parts = ndimage.label(mask, np.ones((3, 3)))[1]
    holes = ndimage.label(~np.pad(mask, 1))[1] - 1
    assert len(rings) == parts + holes
    assert sum(map(signed_area, rings)) == mask.sum()
    counts = rle.encode(mask[None])[0]
    assert np.array_equal(fill([polygon(counts, mask.shape)], mask.shape) if mask.any() else mask, mask)


def test_the_picture_in_the_docstring_is_what_is_drawn() -> None:
    mask = np.ones((4, 5), np.bool_)
    mask[2, 2:4] = False
    corners = dict(zip("ABCDefgh", [(0, 0), (5, 0), (5, 4), (0, 4), (4, 2), (2, 2), (2, 3), (4, 3)], strict=True))
    expected = [corners[name] for name in "ABChefghCD"]
    assert list(map(tuple, polygon(rle.encode(mask[None])[0], mask.shape).tolist())) == expected


@pytest.mark.parametrize("through_centres", [False, True])
@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_polygons_equal_those_of_the_reference_for_any_mask(through_centres: bool, tolerance: float) -> None:
    @given(st.one_of(masks, st.builds(ragged, st.integers(0, 2**32), st.sampled_from([0.05, 0.3, 1.0]))))
    @settings(max_examples=60, deadline=None)
    def check(mask: np.ndarray) -> None:
        expected = reference_outlines.outlines(mask, through_centres=through_centres)
        found = outlines(mask, through_centres=through_centres)
        assert len(found) == len(expected)
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
        counts = rle.encode(mask[None])[0]
        options = {"tolerance": tolerance, "through_centres": through_centres}
        one, other = (module.polygon(counts, mask.shape, **options) for module in (new_outlines, reference_outlines))
        assert np.array_equal(one, other)

    check()


def test_parts_far_apart_are_linked_as_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MAX_PAIRS", 3000)  # several blocks of distances
    mask = np.zeros((300, 420), np.bool_)
    for seed, (top, left) in enumerate([(0, 0), (200, 330), (0, 330), (210, 10)]):
        mask[top : top + 60, left : left + 80] = ragged(seed, 0.1)
    rings = outlines(mask)
    assert np.array_equal(joined(rings[:64]), reference_outlines.joined(rings))


@given(masks)
@settings(max_examples=80)
def test_rings_through_centres_give_back_masks_in_one_piece(mask: np.ndarray) -> None:
    labelled, parts = ndimage.label(mask, np.ones((3, 3)))
    for part in range(1, parts + 1):
        one = ndimage.binary_fill_holes(labelled == part)
        (ring,) = outlines(one, through_centres=True)
        assert np.array_equal(fill_through_centres(ring, one.shape), one)


def test_rings_through_centres_keep_holes() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[5:30, 5:30] = True
    mask[10:15, 10:20] = mask[20, 20] = mask[25:28, 8:11] = False
    rings = outlines(mask, through_centres=True)
    assert [len(ring) for ring in rings] == [4] * 4
    assert np.array_equal(fill_through_centres(joined(rings), mask.shape), mask)


def test_simplified_stays_within_tolerance() -> None:
    y, x = np.mgrid[:200, :300]
    mask = (y - 100) ** 2 / 2 + (x - 150) ** 2 / 3 < 60**2
    (ring,) = outlines(mask)
    sizes = []
    for tolerance in (0, 0.6, 1, 2, 4):
        fewer = simplified(ring, tolerance)
        sizes.append(len(fewer))
        assert jaccard_of_masks(mask, fill([fewer], mask.shape)) > 1 - 0.02 * max(tolerance, 0.01)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 30 < sizes[0]


def test_degenerate_rings() -> None:
    assert len(simplified(np.zeros((6, 2)), 1)) == 6
    assert not fill([np.array([[1.0, 1.0], [5, 5]])], (10, 10)).any()
    assert fill_through_centres(np.array([[2.5, 3.5]]), (8, 9)).sum() == 1
    assert not fill_through_centres(np.array([[1e12, 1e12]] * 3), (8, 9)).any()
    assert fill([np.array([[-1e9, -1e9], [1e9, -1e9], [1e9, 1e9], [-1e9, 1e9]])], (8, 9)).all()
    with pytest.raises(ValueError, match="finite"):
        fill([np.array([[0, 0], [np.nan, 1], [1, 1]])], (8, 9))
    assert len(polygon(rle.encode(np.zeros((1, 4, 4), np.bool_))[0], (4, 4))) == 0
