"""How much a masklet is to be doubted, between 0 and 1, and why."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

JUMP_AREA_CHANGE = 1.0
"""A mask that is twice or half as large as one frame ago has jumped,"""
JUMP_CENTER_SHIFT = 0.35
"""and so has one whose centre moved by a third of its box's diagonal."""
WHOLE_FRAME_SHARE = 0.8
MERGED_OVERLAP, PARTED_OVERLAP = 0.5, 0.1
NAMED_FROM = 0.05
"""A reason is named when it alone would make this much doubt."""

WEIGHTS = {
    "low_iou": 0.3,
    "worst_iou": 0.15,
    "low_presence": 0.18,
    "unstable": 0.29,
    "worst_stability": 0.15,
    "absent": 0.09,
    "flicker": 0.0,
    "jumps": 0.0,
    "restless": 0.0,
    "grown": 0.0,
    "parts": 0.05,
    "border": 0.06,
    "whole_frame": 0.3,
    "merged": 0.37,
    "swap": 0.03,
    "drift": 0.3,
}
"""Fitted to 1 - J&F of 92 masklets of the embedded model on clips of the training split, none negative, held near 0.3
(0.15 for lesser signs) where those say little: `tests.benchmarks.doubt --fit`. Signs of weight 0 added nothing there;
their columns stay for those who want them."""

REASONS = {
    "low_iou": "the model expects inexact masks",
    "worst_iou": "the model expects some very inexact masks",
    "low_presence": "the model is unsure whether the object is there",
    "unstable": "outlines depend on the threshold",
    "worst_stability": "some outlines depend much on the threshold",
    "absent": "the object is missing on many frames",
    "flicker": "the object comes and goes",
    "jumps": "the mask jumps",
    "restless": "the mask's size is restless",
    "grown": "the mask's size left that of the prompt",
    "parts": "the mask is in several parts",
    "border": "the mask touches the frame's edge",
    "whole_frame": "the mask covers the whole frame",
    "merged": "two objects share a mask",
    "swap": "two objects met and parted: ids may be swapped",
    "drift": "tracked back from where it ends, it does not come home",
}


def signs_of(rows: pa.Table, *, pixels: int) -> dict[str, float]:
    """Signs of trouble, each from 0 (none) to 1, from one object's mask rows in frame order; `pixels` of a frame.

    With "visible" for frames whose mask is not empty; a sign without data is 0:

    * low_iou, worst_iou: 1 - predicted_iou, mean and 90th percentile over visible frames.
    * low_presence: mean of 1 / (1 + exp(|object_logit| - 2)) over all frames.
    * unstable, worst_stability: 1 - stability, mean and 90th percentile over visible frames.
    * absent: share of frames from the first prompt on without a mask.
    * flicker: changes between mask and no mask, 6 or more of them being 1.
    * jumps: jumps between neighbouring frames, 5 or more being 1.
    * restless: mean |area_change|, 0.5 (40 % a frame) or more being 1.
    * grown: |log2(median visible area / first prompted area)| / 3, at most 1.
    * parts: share of visible frames with more than one part.
    * border: share of visible frames that touch the frame's edge.
    * whole_frame: share of visible frames above WHOLE_FRAME_SHARE of the frame.
    * merged: share of visible frames with an overlap of at least MERGED_OVERLAP.
    * swap: 1 where such an overlap is followed by one below PARTED_OVERLAP, both visible.
    * drift: 1 - agreement, mean over the frames of the second pass, where there was one.
    """
    area = _floats(rows, "area")
    seen = area > 0
    prompted = rows.column("is_prompted").to_numpy(zero_copy_only=False)
    frames = max(len(area), 1)
    iou, stability = 1 - _floats(rows, "predicted_iou")[seen], 1 - _floats(rows, "stability")[seen]
    logit = _floats(rows, "object_logit")
    change, overlap = _floats(rows, "area_change"), _floats(rows, "overlap")[seen]
    first = area[prompted & seen]
    grown = abs(np.log2(np.median(area[seen]) / first[0])) / 3 if len(first) else 0.0
    signs = {
        "low_iou": _mean(iou),
        "worst_iou": _worst(iou),
        "low_presence": _mean(1 / (1 + np.exp(np.abs(logit) - 2))),
        "unstable": _mean(stability),
        "worst_stability": _worst(stability),
        "absent": 1 - np.count_nonzero(seen) / frames,
        "flicker": np.count_nonzero(np.diff(seen)) / 6,
        "jumps": np.count_nonzero(jumps(rows)) / 5,
        "restless": _mean(np.abs(change)) / 0.5,
        "grown": grown,
        "parts": _mean(np.nan_to_num(_floats(rows, "parts")[seen]) > 1),
        "border": _mean(_floats(rows, "touches_border")[seen]),
        "whole_frame": _mean(area[seen] > WHOLE_FRAME_SHARE * pixels),
        "merged": _mean(overlap >= MERGED_OVERLAP),
        "swap": float(_partings(overlap) > 0),
        "drift": _mean(1 - _floats(rows, "agreement")),
    }
    return {name: float(min(max(value, 0.0), 1.0)) for name, value in signs.items()}


def masklet_quality(rows: pa.Table, *, pixels: int) -> dict[str, Any]:
    """Quality columns of the masklets table, from one object's mask rows in frame order.

    * visible_share: visible_frames / frames.
    * appearances, disappearances: times it comes into sight again or goes out of it.
    * mean_stability, min_stability: over visible frames.
    * jumps, whole_frame_masks: frames; see `jumps` and WHOLE_FRAME_SHARE.
    * max_overlap: the largest with another object; swap_suspicions: times it met one (MERGED_OVERLAP) and left it.
    * drift: as in `signs_of`; null without a second pass.
    * doubt and reasons: see `doubt_of`.
    """
    area = _floats(rows, "area")
    seen = area > 0
    turns = np.diff(seen.astype(np.int8))
    stability, overlap = _floats(rows, "stability")[seen], _floats(rows, "overlap")[seen]
    stability, met = stability[~np.isnan(stability)], overlap[~np.isnan(overlap)]
    signs = signs_of(rows, pixels=pixels)
    doubt, reasons = doubt_of(signs)
    compared = not np.isnan(_floats(rows, "agreement")).all()
    return {
        "visible_share": np.count_nonzero(seen) / max(len(seen), 1),
        "appearances": int(np.count_nonzero(turns > 0)),
        "disappearances": int(np.count_nonzero(turns < 0)),
        "mean_stability": float(stability.mean()) if stability.size else None,
        "min_stability": float(stability.min()) if stability.size else None,
        "jumps": int(np.count_nonzero(jumps(rows))),
        "whole_frame_masks": int(np.count_nonzero(area > WHOLE_FRAME_SHARE * pixels)),
        "max_overlap": float(met.max()) if met.size else None,
        "swap_suspicions": _partings(overlap),
        "drift": signs["drift"] if compared else None,
        "doubt": doubt,
        "reasons": reasons,
    }


def jumps(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """For each mask row, whether the mask has jumped since the frame before."""
    change, shift = np.abs(_floats(rows, "area_change")), _floats(rows, "center_shift")
    return (change >= JUMP_AREA_CHANGE) | (shift >= JUMP_CENTER_SHIFT)  # NaN compares as no


def doubt_of(signs: Mapping[str, float]) -> tuple[float, list[str]]:
    """doubt = 1 - exp(-sum of WEIGHTS x signs), and the reasons that made it, the strongest first."""
    made = {name: WEIGHTS[name] * signs[name] for name in WEIGHTS}
    strongest = sorted((name for name in made if 1 - np.exp(-made[name]) >= NAMED_FROM), key=lambda n: -made[n])
    return float(1 - np.exp(-sum(made.values()))), [REASONS[name] for name in strongest]


def _partings(overlap: Floats) -> int:
    """How often an overlap of at least MERGED_OVERLAP is followed by one below PARTED_OVERLAP."""
    states = np.where(overlap >= MERGED_OVERLAP, 1, np.where(overlap < PARTED_OVERLAP, -1, 0))
    states = states[states != 0]
    return int(np.count_nonzero((states[:-1] == 1) & (states[1:] == -1)))


def _floats(rows: pa.Table, name: str) -> Floats:
    """A column, NaN where it is null or where older labels lack it."""
    if name not in rows.schema.names:
        return np.full(rows.num_rows, np.nan)
    column = rows.column(name)
    column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return column.cast(pa.float64()).to_numpy()


def _mean(values: npt.NDArray[np.generic]) -> float:
    held = values.astype(np.float64)
    held = held[~np.isnan(held)]
    return float(held.mean()) if held.size else 0.0


def _worst(values: Floats) -> float:
    held = values[~np.isnan(values)]
    return float(np.quantile(held, 0.9)) if held.size else 0.0
