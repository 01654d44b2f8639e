"""Small connected areas of masks, found from runs instead of single pixels."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def fill_holes(masks: NDArray[np.bool_], max_area: float) -> NDArray[np.bool_]:
    """(N, H, W) masks with every background area of at most `max_area` pixels filled."""
    return ~drop_sprinkles(~masks, max_area)


def drop_sprinkles(masks: NDArray[np.bool_], max_area: float) -> NDArray[np.bool_]:
    """(N, H, W) masks without connected areas of at most `max_area` pixels; touching corners connect pixels."""
    row, start, stop = _runs(masks)
    area = _areas(row, start, stop, masks.shape[1], masks.shape[2])
    small = area <= max_area
    if not small.any():
        return masks
    length = (stop - start)[small]
    first = row[small] * masks.shape[2] + start[small]
    pixels = np.repeat(first - np.cumsum(length) + length, length) + np.arange(length.sum())
    kept = masks.copy()
    kept.reshape(-1)[pixels] = False
    return kept


def count_parts(masks: NDArray[np.bool_]) -> Ints:
    """(N,) connected areas of (N, H, W) masks; pixels that touch at a corner are connected."""
    row, start, stop = _runs(masks)
    label = _labels(row, start, stop, masks.shape[1], masks.shape[2])
    first = np.flatnonzero(label == np.arange(len(label)))  # a component's label is the index of its first run
    return np.bincount(row[first] // masks.shape[1], minlength=len(masks))


def _runs(masks: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Row (over all masks), first column and end of each run of pixels, in reading order."""
    count, height, width = masks.shape
    padded = np.zeros((count * height, width + 2), np.int8)
    padded[:, 1:-1] = masks.reshape(-1, width)
    change = np.diff(padded, axis=1).reshape(-1)
    starts, stops = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return starts // (width + 1), starts % (width + 1), stops % (width + 1)


def _areas(row: Ints, start: Ints, stop: Ints, height: int, width: int) -> Ints:
    """For each run, the number of pixels of its connected area."""
    label = _labels(row, start, stop, height, width)
    return np.bincount(label, weights=stop - start, minlength=len(row)).astype(np.int64)[label]


def _labels(row: Ints, start: Ints, stop: Ints, height: int, width: int) -> Ints:
    """For each run, the index of the first run of its connected area."""
    line = width + 2
    below = (row + 1) * line
    lowest = np.searchsorted(row * line + stop, below + start, side="left")
    highest = np.searchsorted(row * line + start, below + stop, side="right")
    touching = np.where((row + 1) % height == 0, 0, highest - lowest)  # a mask's last row has nothing below it
    touching = np.maximum(touching, 0)
    upper = np.repeat(np.arange(len(row)), touching)
    lower = np.repeat(lowest - np.cumsum(touching) + touching, touching) + np.arange(touching.sum())
    return _connect(len(row), upper, lower)


def _connect(count: int, one: Ints, other: Ints) -> Ints:
    """Component labels of a graph: union by minimum root with path compression, until nothing changes."""
    label = np.arange(count)
    while True:
        a, b = label[one], label[other]
        apart = a != b
        if not apart.any():
            return label
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(label, shorter := label[label]):
            label = shorter
