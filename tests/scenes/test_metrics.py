"""The figures equal those of TrackEval 1.3.0, which were computed once on the same input."""

import numpy as np
import pytest

from tests.scenes.metrics import Frame, figures, overlaps


def _tracked(seed: int) -> list[Frame]:
    """Five things, seven masklets, and every thing's masklet changes after 25 of 40 frames."""
    rng = np.random.default_rng(seed)
    frames = []
    for t in range(40):
        things, masklets = ([i for i in range(n) if rng.random() < share] for n, share in ((5, 0.8), (7, 0.6)))
        iou = rng.uniform(0, 0.4, (len(things), len(masklets)))
        for x, thing in enumerate(things):
            for y, masklet in enumerate(masklets):
                if masklet == (thing if t < 25 else (thing + 1) % 5):
                    iou[x, y] = rng.uniform(0.3, 1)
        frames.append((things, masklets, iou))
    return frames


@pytest.mark.parametrize(("seed", "hota", "idf1"), [(0, 0.2310027091, 0.2691131498), (1, 0.2023550178, 0.2160493827)])
def test_figures_equal_those_of_trackeval(seed: int, hota: float, idf1: float) -> None:
    found = figures([_tracked(seed)])
    assert (found.hota, found.idf1) == pytest.approx((hota, idf1), abs=1e-9)
    assert (found.things, found.masklets) == (5, 7)


def test_perfect_masklets_have_figures_of_one() -> None:
    rng = np.random.default_rng(0)
    true = {i: rng.random((6, 8, 8)) < 0.3 for i in (1, 2)}
    found = figures([overlaps(true, {7: true[1], 9: true[2]}), overlaps(true, {7: true[2], 9: true[1]})])
    assert (found.idf1, found.hota, found.ids_per_thing, found.switches) == (1, 1, 1, 0)


def test_a_masklet_that_changes_things_is_a_switch() -> None:
    masks = {i: np.zeros((4, 4, 4), bool) for i in (1, 2)}
    masks[1][:2, :2], masks[2][2:, 2:] = True, True
    one = {5: masks[1] | masks[2]}
    both = {i: np.ones((4, 4, 4), bool) & (np.arange(4) < 2)[None, None] for i in (1,)}
    assert figures([overlaps(both, {5: both[1]})]).switches == 0
    halves = {5: both[1] & (np.arange(4) < 2)[:, None, None], 6: both[1] & (np.arange(4) >= 2)[:, None, None]}
    assert figures([overlaps(both, halves)]).switches == 1
    assert figures([overlaps(masks, one)]).ids_per_thing == 0.5
