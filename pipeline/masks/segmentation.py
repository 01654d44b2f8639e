"""COCO's segmentations as masks: compressed or plain RLE, or polygons."""

from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.masks import rle
from pipeline.masks.outlines import fill


def to_counts(segmentation: Any, size: tuple[int, int]) -> str:
    """Compressed counts of any segmentation that COCO defines: compressed or plain RLE, or polygons."""
    if isinstance(segmentation, list):
        height, width = size
        mask = np.zeros(rle.check_size((height, width)), np.bool_)
        for ring in segmentation:
            points = np.array(ring, np.float64).reshape(-1, 2)
            if len(points) >= 3:
                mask |= fill([points], (height, width))
        return rle.encode(mask[None])[0]
    if tuple(segmentation["size"]) != size:
        raise UsageError(f"a segmentation of {segmentation['size']} in an image of {list(size)}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        rle.decompress(counts, size)
        return counts
    runs = np.array(counts, np.int64).reshape(-1)
    height, width = rle.check_size(size)
    if not runs.size or runs.min() < 0 or runs.max() > rle.MAX_PIXELS or int(runs.sum()) != height * width:
        raise UsageError(f"the runs of a segmentation do not cover its {height} x {width} pixels")
    return rle.compress(runs, np.array([runs.size]))[0]
