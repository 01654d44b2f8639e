"""IDF1 and HOTA of masklets against true masks, by mask IoU.

IDF1: Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016.
HOTA: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0.05, 0.99, 0.05)
Masks = Mapping[int, NDArray[np.bool_]]
Frame = tuple[list[int], list[int], NDArray[np.float64]]


@dataclass(frozen=True)
class Figures:
    idf1: float
    hota: float
    things: int
    masklets: int
    switches: int
    """Times that a thing's masklet differs from the one it had before, at IoU 0.5."""

    @property
    def ids_per_thing(self) -> float:
        return self.masklets / self.things


def overlaps(true: Masks, ours: Masks) -> list[Frame]:
    """Of each frame the things shown, the masklets shown, and the IoU of each with each, from (T, H, W) masks."""
    frames = []
    for t in range(len(next(iter(true.values())))):
        things = [i for i, mask in true.items() if mask[t].any()]
        masklets = [i for i, mask in ours.items() if mask[t].any()]
        if not things or not masklets:
            frames.append((things, masklets, np.zeros((len(things), len(masklets)))))
            continue
        a = np.array([true[i][t].ravel() for i in things]).astype(np.float32)
        b = np.array([ours[i][t].ravel() for i in masklets]).astype(np.float32)
        shared = (a @ b.T).astype(np.float64)
        frames.append((things, masklets, shared / (a.sum(1)[:, None] + b.sum(1) - shared)))
    return frames


def figures(videos: Sequence[Sequence[Frame]]) -> Figures:
    """Figures over all frames of all videos; identities of different videos are different."""
    frames = [
        ([(v, i) for i in things], [(v, i) for i in masklets], iou)
        for v, video in enumerate(videos)
        for things, masklets, iou in video
    ]
    things, masklets = Counter(i for f in frames for i in f[0]), Counter(i for f in frames for i in f[1])
    return Figures(
        idf1=_idf1(frames, things, masklets),
        hota=_hota(frames, things, masklets),
        things=len(things),
        masklets=len(masklets),
        switches=_switches(frames),
    )


Ids = Sequence[tuple[int, int]]
Seen = Sequence[tuple[Ids, Ids, NDArray[np.float64]]]
Counts = Counter[tuple[int, int]]


def _idf1(frames: Seen, things: Counts, masklets: Counts) -> float:
    """2 IDTP / (true + predicted detections), identities matched one to one over the whole video at IoU 0.5."""
    row, column = ({name: n for n, name in enumerate(counts)} for counts in (things, masklets))
    together = np.zeros((len(row), len(column)))
    for true, ours, iou in frames:
        for a, b in np.argwhere(iou >= 0.5):
            together[row[true[a]], column[ours[b]]] += 1
    matched = together[linear_sum_assignment(-together)].sum()
    return float(2 * matched / max(1, things.total() + masklets.total()))


def _hota(frames: Seen, things: Counts, masklets: Counts) -> float:
    """Mean over ALPHAS of the geometric mean of detection accuracy and association accuracy (equations 8 to 10)."""
    row, column = ({name: n for n, name in enumerate(counts)} for counts in (things, masklets))
    gt, pred = np.array(list(things.values())), np.array(list(masklets.values()))
    if not len(gt) or not len(pred):
        return 0.0
    potential = np.zeros((len(gt), len(pred)))  # the global alignment, by which matches of a frame are preferred
    placed = [([row[i] for i in true], [column[i] for i in ours], iou) for true, ours, iou in frames]
    for a, b, iou in placed:
        if a and b:
            potential[np.ix_(a, b)] += iou / np.maximum(iou.sum(0)[None] + iou.sum(1)[:, None] - iou, 1e-9)
    alignment = potential / (gt[:, None] + pred[None] - potential)
    matched = np.zeros((len(ALPHAS), len(gt), len(pred)))
    for a, b, iou in placed:
        if not a or not b:
            continue
        at_a, at_b = linear_sum_assignment(-(alignment[np.ix_(a, b)] * iou))
        for x, y in zip(at_a, at_b, strict=True):
            matched[:, a[x], b[y]] += iou[x, y] >= ALPHAS - np.finfo(float).eps
    found = matched.sum((1, 2))
    share = matched / np.maximum(1, gt[:, None] + pred[None] - matched)
    association = (matched * share).sum((1, 2)) / np.maximum(1, found)
    detection = found / np.maximum(1, gt.sum() + pred.sum() - found)
    return float(np.sqrt(detection * association).mean())


def _switches(frames: Seen) -> int:
    last: dict[tuple[int, int], tuple[int, int]] = {}
    count = 0
    for true, ours, iou in frames:
        if not iou.size:
            continue
        for a, b in zip(*linear_sum_assignment(-np.where(iou >= 0.5, iou, 0)), strict=True):
            if iou[a, b] >= 0.5:
                count += last.get(true[a], ours[b]) != ours[b]
                last[true[a]] = ours[b]
    return count
