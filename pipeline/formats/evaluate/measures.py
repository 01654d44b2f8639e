"""J and F of two masks, and their statistics over a masklet, as DAVIS 2017 defines them.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016), and the
benchmark's own code, https://github.com/davisvideochallenge/davis2017-evaluation. J comes from the runs alone; F looks
only at the box around both masks, and only at boundary pixels there.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.masks import rle

BOUND_TH = 0.008
"""Largest distance at which boundary pixels match, as a share of the diagonal of the frame."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One measure over the frames of a masklet."""

    mean: float
    recall: float
    """Share of the frames above 0.5."""
    decay: float
    """Mean of the first quarter of the frames minus mean of the last."""


def jaccard(truth: str, found: str, size: tuple[int, int]) -> float:
    """J of two RLE masks of [height, width]: intersection over union; 1 where both are empty."""
    return rle.iou(truth, found, size)


def boundary_f(truth: str, found: str, size: tuple[int, int]) -> float:
    """F of two RLE masks of [height, width]: how well their outlines match; 1 where neither has one."""
    return boundary_f_of_runs(rle.decompress(truth, size), rle.decompress(found, size), size)


def j_and_f(truth: str, found: str, size: tuple[int, int]) -> tuple[float, float]:
    """J and F of two RLE masks of [height, width]."""
    if truth == found:
        rle.decompress(truth, size)
        return 1.0, 1.0
    a, b = rle.decompress(truth, size), rle.decompress(found, size)
    return rle.iou_of_runs(a, b), boundary_f_of_runs(a, b, size)


def jaccard_of_masks(truth: rle.Mask, found: rle.Mask) -> float:
    """J of two masks (H, W)."""
    union = int(np.count_nonzero(truth | found))
    return int(np.count_nonzero(truth & found)) / union if union else 1.0


def boundary_f_of_masks(truth: rle.Mask, found: rle.Mask) -> float:
    """F of two masks (H, W)."""
    if truth.shape != found.shape:
        raise ValueError(f"masks of {truth.shape} and {found.shape} cannot be compared")
    either = truth | found
    rows, columns = np.flatnonzero(either.any(1)), np.flatnonzero(either.any(0))
    if not rows.size:
        return 1.0
    box = (
        slice(max(int(rows[0]) - 1, 0), int(rows[-1]) + 2),
        slice(max(int(columns[0]) - 1, 0), int(columns[-1]) + 2),
    )
    return _boundary_f_within(truth[box], found[box], tolerance(truth.shape))


def tolerance(size: tuple[int, ...]) -> int:
    """Radius in pixels of the disk within which boundary pixels match, for a frame of [height, width]."""
    return int(np.ceil(BOUND_TH * np.linalg.norm(size)))


def boundary(mask: rle.Mask) -> rle.Mask:
    """DAVIS's one pixel wide outline, half a pixel towards the origin: where right, below or both differ."""
    outline = np.zeros_like(mask)
    right, below = mask[:, :-1] ^ mask[:, 1:], mask[:-1] ^ mask[1:]
    outline[:, :-1] |= right
    outline[:-1] |= below
    outline[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return outline


def statistics(values: npt.NDArray[np.float64]) -> Statistics:
    """DAVIS's mean, recall and decay; frames in order. The benchmark's own code keeps frame numbers of the quarters in
    8 bits, which is wrong beyond 256 frames; this code does not."""
    if not values.size:
        return Statistics(mean=np.nan, recall=np.nan, decay=np.nan)
    edges = (np.round(np.linspace(1, values.size, 5) + 1e-10) - 1).astype(np.int64)
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > 0.5).mean()),
        decay=float(first.mean() - last.mean()),
    )


def boundary_f_of_runs(a: rle.Ints, b: rle.Ints, size: tuple[int, int]) -> float:
    """F of two masks given by their runs."""
    boxes = [box for box in (rle.bbox_of_runs(a, size), rle.bbox_of_runs(b, size)) if box is not None]
    if not boxes:
        return 1.0
    x_min, y_min, _, _ = np.min(boxes, axis=0).tolist()
    _, _, x_max, y_max = np.max(boxes, axis=0).tolist()
    columns, rows = (max(x_min - 1, 0), min(x_max + 1, size[1])), (max(y_min - 1, 0), min(y_max + 1, size[0]))
    # the outline's definition is the same along rows and columns, so the masks may stay as RLE lays them: transposed
    truth, found = (rle.columns_of_runs(runs, size, columns)[:, slice(*rows)] for runs in (a, b))
    return _boundary_f_within(truth, found, tolerance(size))


def _boundary_f_within(truth: rle.Mask, found: rle.Mask, radius: int) -> float:
    truth_line, found_line = boundary(truth), boundary(found)
    of_truth, of_found = int(np.count_nonzero(truth_line)), int(np.count_nonzero(found_line))
    if not of_truth or not of_found:
        return float(of_truth == of_found)
    precision = _near(found_line, truth_line, radius) / of_found
    recall = _near(truth_line, found_line, radius) / of_truth
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _near(line: rle.Mask, other: rle.Mask, radius: int) -> int:
    """How many pixels of a line lie within a disk's radius of another: what dilating the other by the disk would cover,
    without dilating. Each row of the disk is an interval, and sums along the other's rows say whether it is empty."""
    both = line & other
    y, x = np.nonzero(line & ~other)
    matched = int(np.count_nonzero(both))
    if not y.size:
        return matched
    height, width = other.shape
    sums = np.zeros((height, width + 1), np.int32)
    np.cumsum(other, axis=1, out=sums[:, 1:])
    for dy in sorted(range(-radius, radius + 1), key=abs):
        reach = int(np.sqrt(radius * radius - dy * dy))
        row = y + dy
        valid = (row >= 0) & (row < height)
        row = np.where(valid, row, 0)
        near = sums[row, np.minimum(x + reach + 1, width)] > sums[row, np.maximum(x - reach, 0)]
        near &= valid
        matched += int(np.count_nonzero(near))
        y, x = y[~near], x[~near]
        if not y.size:
            break
    return matched
