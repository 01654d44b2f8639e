"""Several rings joined into one by links between their nearest points."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(N, 2): x, y."""
Ints = npt.NDArray[np.int64]

SEARCH_RADIUS = 3.0
"""Distance by x and y, in pixels, in which neighbours are searched first: rings of a ragged mask nearly touch."""

MAX_PAIRS = 1_000_000
"""Distances held in memory at once."""


def joined(rings: Sequence[Points]) -> Points:
    """One ring of several: each is linked to those before it at the nearest pair of points, by a path there and back.

    Of equally near pairs, the first along the joined ring is used, then the first along the new ring.
    """
    if len(rings) == 1:
        return rings[0]
    points = np.concatenate(rings)
    stops = np.cumsum([len(ring) for ring in rings])
    tied = np.zeros(len(points), np.bool_)
    every = np.arange(len(points))
    sequence = every[: stops[0]]
    for (begin, stop), (near, there) in zip(itertools.pairwise(stops.tolist()), _links(points, stops), strict=True):
        if len(near) == 1:
            here, at = int((sequence == near[0]).argmax()), int(there[0])
        else:
            tied[near] = True
            here = int(tied[sequence].argmax())
            tied[near] = False
            at = int(there[near == sequence[here]].min())
        sequence = np.concatenate((sequence[: here + 1], every[at:stop], every[begin : at + 1], sequence[here:]))
    return points[sequence]


def _links(points: Points, stops: Ints) -> Iterator[tuple[Ints, Ints]]:
    """For each ring but the first, all pairs of an earlier point and one of the ring at the smallest distance."""
    by_x = points[:, 0].argsort(kind="stable")
    x, y = points[by_x].T
    first = int(stops[0])
    ring_of = np.repeat(np.arange(len(stops)), np.diff(stops, prepend=0))
    # most rings have a neighbour within SEARCH_RADIUS by x and y, so these points are compared first
    low = np.searchsorted(x, points[first:, 0] - SEARCH_RADIUS)
    counts = np.searchsorted(x, points[first:, 0] + SEARCH_RADIUS, "right") - low
    there = np.repeat(np.arange(first, len(points)), counts)
    slots = np.arange(len(there)) - np.repeat(np.cumsum(counts) - counts - low, counts)
    along = y[slots] - points[there, 1]
    close = np.flatnonzero((np.abs(along) <= SEARCH_RADIUS) & (ring_of[by_x[slots]] < ring_of[there]))
    slots, there, along = slots[close], there[close], along[close]
    across = x[slots] - points[there, 0]
    gaps = across * across + along * along
    bounds = np.searchsorted(there, stops).tolist()
    for ring, (start, stop) in enumerate(itertools.pairwise(bounds), start=1):
        found = gaps[start:stop]
        if stop > start and (smallest := found.min()) < SEARCH_RADIUS**2:  # points outside the squares are farther
            pairs = start + np.flatnonzero(found == smallest)
            yield by_x[slots[pairs]], there[pairs]
        else:
            yield _far_link(points, int(stops[ring - 1]), int(stops[ring]))


def _far_link(points: Points, begin: int, stop: int) -> tuple[Ints, Ints]:
    """The same for one ring, compared with every earlier point."""
    smallest, near, there = np.inf, np.empty(0, np.int64), np.empty(0, np.int64)
    step = max(1, MAX_PAIRS // begin)
    for at in range(begin, stop, step):
        some = points[at : min(at + step, stop)]
        across, along = (points[:begin, axis, None] - some[:, axis] for axis in (0, 1))
        gaps = (across * across + along * along).ravel()
        if (least := gaps.min()) > smallest:
            continue
        rows, columns = np.divmod(np.flatnonzero(gaps == least), len(some))
        if least < smallest:
            smallest, near, there = least, rows, at + columns
        else:
            near, there = np.concatenate((near, rows)), np.concatenate((there, at + columns))
    return near, there
