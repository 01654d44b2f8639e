"""Where a careful user would click on a mask, and the box they would draw; numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def depth(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Distance in pixels of each pixel of mask (H, W) to the nearest one outside it; beyond the frame is outside."""
    left = np.pad(mask, 1)
    distance = np.zeros(left.shape, np.int32)
    while left.any():
        distance += left
        core = left[1:-1, 1:-1] & left[:-2, 1:-1] & left[2:, 1:-1] & left[1:-1, :-2] & left[1:-1, 2:]
        if distance.max() % 2:  # diagonal neighbours at every second step: octagons are nearly circles
            core &= left[:-2, :-2] & left[:-2, 2:] & left[2:, :-2] & left[2:, 2:]
        left = np.pad(core, 1)
    return distance[1:-1, 1:-1]


def deepest(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """The deepest pixel (x, y) of a mask (H, W) that is not empty."""
    y, x = np.unravel_index(depth(mask).argmax(), mask.shape)
    return int(x), int(y)


def tight_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(x_min, y_min, x_max, y_max) in pixels, max exclusive, of a mask (H, W) that is not empty."""
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
