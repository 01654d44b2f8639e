"""Masks with ragged edges, as a model gives them where it is unsure: many corners, holes and specks."""

import numpy as np


def ragged(seed: int, noise: float, *, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A blob (H, W) in the middle of a frame; `noise` makes its edge uncertain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] - np.array(size).reshape(2, 1, 1) / 2
    angle = np.arctan2(y, x)
    edge = 1 + sum(0.15 / k * np.sin(k * angle + rng.uniform(0, 6)) for k in range(1, 30))
    return np.hypot(y, x) / (0.25 * size[1] * edge) + rng.normal(0, 0.06 * noise, size) < 1
