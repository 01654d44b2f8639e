"""`python -m tests.benchmarks.rle`: encoding of 720p masks beside pycocotools, on one thread."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools import mask as coco

from pipeline.masks import rle

HEIGHT, WIDTH = 720, 1280


def wavy(rng: np.random.Generator, *, height: int = HEIGHT, width: int = WIDTH, share: float = 0.08) -> np.ndarray:
    """A blob with the ragged outline of a tracked object."""
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width
    angle = np.arctan2(y - cy, x - cx)
    radius = np.sqrt(share * height * width / np.pi)
    edge = sum(rng.normal(0, 0.25 / (1 + k)) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in range(1, 30))
    return np.hypot((y - cy) * 0.8, (x - cx) * 1.25) < radius * (1 + edge)


def milliseconds(call: Callable[[Any], object], given: Any) -> float:
    times = []
    for _ in range(30):
        start = time.perf_counter()
        call(given)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main() -> None:
    rng = np.random.default_rng(0)
    titles = (
        ("runs", 8),
        ("pycocotools", 14),
        ("no copy", 10),
        ("pipeline.masks.rle", 14),
        ("ratio", 8),
        ("columns", 10),
    )
    print(f"{'720p masks':<28}" + "".join(title.rjust(width) for title, width in titles))
    for name, share in (("small object, 1 %", 0.01), ("object, 8 %", 0.08), ("large object, 30 %", 0.3)):
        masks = np.stack([wavy(rng, share=share) for _ in range(8)])
        as_bytes = masks.view(np.uint8)
        columns = np.ascontiguousarray(masks.transpose(0, 2, 1))
        fortran = [np.asfortranarray(mask) for mask in as_bytes]
        theirs = [coco.encode(mask)["counts"].decode() for mask in fortran]
        assert rle.encode(masks) == theirs == rle.encode_columns(columns)
        n = len(masks)
        one = milliseconds(lambda given: [coco.encode(np.asfortranarray(mask)) for mask in given], as_bytes) / n
        bare = milliseconds(lambda given: [coco.encode(mask) for mask in given], fortran) / n
        ours = milliseconds(rle.encode, masks) / n
        turned = milliseconds(rle.encode_columns, columns) / n
        runs = sum(len(rle.parse(counts)) for counts in theirs) // n
        print(f"{name:<28}{runs:>8}{one:>11.3f} ms{bare:>7.3f} ms{ours:>11.3f} ms{one / ours:>7.1f}x{turned:>7.3f} ms")


if __name__ == "__main__":
    main()
