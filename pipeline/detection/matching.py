"""Overlaps of boxes, and one-to-one matches of the best total."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]

REACH = 3.0
"""Two boxes may show one thing on consecutive looks if their centres are at most so many box sizes apart."""
SIZE_RATIO = 2.0
"""And if one is at most so many times as large as the other, by side."""


def overlaps(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """IoU, and intersection over the smaller of the two, of each box of `a` (n, 4) with each of `b` (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    smaller = np.minimum(area_a[:, None], area_b[None, :])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(shared / union), np.nan_to_num(shared / smaller)


def nearness(a: Floats, b: Floats, *, reach: float = REACH) -> Floats:
    """How well each box of `b` may show, one look later, the thing in each box of `a`: (n, m), 0 where it cannot.

    Their IoU and, for boxes that move by more than their size, up to 0.1 for the distance of the centres.
    """
    iou, _ = overlaps(a, b)
    size_a, size_b = (np.sqrt(np.maximum(np.prod(each[:, 2:] - each[:, :2], axis=1), 1e-9)) for each in (a, b))
    centre_a, centre_b = ((each[:, :2] + each[:, 2:]) / 2 for each in (a, b))
    distance = np.linalg.norm(centre_a[:, None] - centre_b[None], axis=2)
    size = (size_a[:, None] + size_b[None]) / 2
    ratio = np.maximum(size_a[:, None] / size_b[None], size_b[None] / size_a[:, None])
    near = np.where(ratio <= SIZE_RATIO, np.maximum(0.0, 1 - distance / (reach * size)), 0.0)
    return np.asarray(iou + 0.1 * near)


def best_matches(scores: Floats, *, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) of the largest total score, each row and column at most once, none below `least`."""
    if not scores.size:
        return []
    allowed = np.where(scores >= least, scores, 0.0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    return [
        (int(r), int(c)) for r, c in zip(rows, columns, strict=True) if allowed[r, c] >= least and allowed[r, c] > 0
    ]
