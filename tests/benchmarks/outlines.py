"""`python -m tests.benchmarks.outlines`: milliseconds a polygon of a ragged 480p mask, before and now."""

import time
from collections.abc import Callable

import numpy as np

from pipeline.masks import outlines, rle
from tests.masks import reference_outlines
from tests.masks.ragged import ragged

SIZE = (480, 854)
ROUNDS = 6


def seconds(polygon: Callable[..., np.ndarray], counts: str) -> float:
    """CPU time of one call."""
    start = time.process_time()
    polygon(counts, SIZE)
    return time.process_time() - start


def main() -> None:
    for noise in (0.05, 0.07, 0.2, 1.0):
        masks = [rle.encode(ragged(seed, noise, size=SIZE)[None])[0] for seed in range(3)]
        points = np.mean([len(outlines.polygon(counts, SIZE)) for counts in masks])
        best = {"old": [np.inf] * len(masks), "new": [np.inf] * len(masks)}
        for _ in range(ROUNDS):
            for at, counts in enumerate(masks):
                for name, module in (("old", reference_outlines), ("new", outlines)):
                    best[name][at] = min(best[name][at], seconds(module.polygon, counts))
        old, new = (1000 * sum(best[name]) / len(masks) for name in ("old", "new"))
        print(f"noise {noise:4}: {points:5.0f} points, {old:6.1f} ms -> {new:5.1f} ms, {old / new:.1f} times as fast")


if __name__ == "__main__":
    main()
