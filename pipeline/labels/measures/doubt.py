"""Doubt of a masklet, between 0 and 1, and its reasons."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

JUMP_AREA_CHANGE = 1.0
"""|area_change| from which a mask has jumped: twice or half the area of the previous frame."""
JUMP_CENTER_SHIFT = 0.35
"""center_shift from which a mask has jumped: a third of its box's diagonal."""
WHOLE_FRAME_SHARE = 0.8
"""Share of the frame from which a mask counts as covering it."""
MERGED_OVERLAP, SEPARATED_OVERLAP = 0.5, 0.1
"""Overlap from which two masks count as merged, and below which they count as separate."""
NAMED_FROM = 0.05
"""Doubt that a signal must cause by itself for its reason to be listed."""

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
"""Fitted to 1 - J&F of 92 masklets of the embedded model on clips of the training split, none negative, regularized
towards 0.3 (0.15 for weaker signals): `tests.benchmarks.doubt --fit`. Signals of weight 0 did not improve the fit;
their columns are kept for users."""

REASONS = {
    "low_iou": "predicted IoU is low",
    "worst_iou": "predicted IoU is very low on some frames",
    "low_presence": "the model is unsure whether the object is present",
    "unstable": "mask area depends on the mask threshold",
    "worst_stability": "mask area depends strongly on the mask threshold on some frames",
    "absent": "the object is absent on many frames",
    "flicker": "the object disappears and reappears repeatedly",
    "jumps": "the mask jumps between frames",
    "restless": "mask area fluctuates between frames",
    "grown": "mask area differs from that of the prompted frame",
    "parts": "the mask has several separate parts",
    "border": "the mask touches the frame border",
    "whole_frame": "the mask covers most of the frame",
    "merged": "the mask overlaps the mask of another object",
    "swap": "object ids may be swapped after two masks overlapped",
    "drift": "backward tracking disagrees with the forward masks",
}
"""What users read in the column reasons. Labels keep the texts of the version that wrote them."""


def signals_of(rows: pa.Table, *, pixels: int) -> dict[str, float]:
    """Signals of wrong masks, each from 0 (none) to 1, from an object's mask rows in frame order; `pixels` of a frame.

    A frame is visible if its mask is not empty. A signal without data is 0:

    * low_iou, worst_iou: 1 - predicted_iou, mean and 90th percentile over visible frames.
    * low_presence: mean of 1 / (1 + exp(|object_logit| - 2)) over all frames.
    * unstable, worst_stability: 1 - stability, mean and 90th percentile over visible frames.
    * absent: share of frames without a mask.
    * flicker: number of changes between mask and no mask / 6, at most 1.
    * jumps: number of jumps between consecutive frames / 5, at most 1.
    * restless: mean |area_change| / 0.5, at most 1; 0.5 is a change by 40 % per frame.
    * grown: |log2(median visible area / first prompted area)| / 3, at most 1.
    * parts: share of visible frames with more than one part.
    * border: share of visible frames whose mask touches the frame border.
    * whole_frame: share of visible frames whose mask covers more than WHOLE_FRAME_SHARE of the frame.
    * merged: share of visible frames with an overlap of at least MERGED_OVERLAP.
    * swap: 1 if `separations` finds any.
    * drift: 1 - agreement, mean over the frames of the second pass.
    """
    area = floats(rows, "area")
    visible = area > 0
    prompted = rows.column("is_prompted").to_numpy(zero_copy_only=False)
    frames = max(len(area), 1)
    iou, stability = 1 - floats(rows, "predicted_iou")[visible], 1 - floats(rows, "stability")[visible]
    logit = floats(rows, "object_logit")
    change, overlap = floats(rows, "area_change"), floats(rows, "overlap")[visible]
    first = area[prompted & visible]
    grown = abs(np.log2(np.median(area[visible]) / first[0])) / 3 if len(first) else 0.0
    signals = {
        "low_iou": _mean(iou),
        "worst_iou": _worst(iou),
        "low_presence": _mean(1 / (1 + np.exp(np.abs(logit) - 2))),
        "unstable": _mean(stability),
        "worst_stability": _worst(stability),
        "absent": 1 - np.count_nonzero(visible) / frames,
        "flicker": np.count_nonzero(np.diff(visible)) / 6,
        "jumps": np.count_nonzero(jumps(rows)) / 5,
        "restless": _mean(np.abs(change)) / 0.5,
        "grown": grown,
        "parts": _mean(np.nan_to_num(floats(rows, "parts")[visible]) > 1),
        "border": _mean(floats(rows, "touches_border")[visible]),
        "whole_frame": _mean(area[visible] > WHOLE_FRAME_SHARE * pixels),
        "merged": _mean(overlap >= MERGED_OVERLAP),
        "swap": float(separations(overlap) > 0),
        "drift": _mean(1 - floats(rows, "agreement")),
    }
    return {name: float(min(max(value, 0.0), 1.0)) for name, value in signals.items()}


def jumps(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """For each mask row, whether the mask has jumped since the previous frame."""
    change, shift = np.abs(floats(rows, "area_change")), floats(rows, "center_shift")
    return (change >= JUMP_AREA_CHANGE) | (shift >= JUMP_CENTER_SHIFT)  # comparisons with NaN are false


def doubt_of(signals: Mapping[str, float]) -> tuple[float, list[str]]:
    """doubt = 1 - exp(-sum of WEIGHTS x signals), and its reasons, the strongest first."""
    weighted = {name: WEIGHTS[name] * signals[name] for name in WEIGHTS}
    strongest = sorted(
        (name for name in weighted if 1 - np.exp(-weighted[name]) >= NAMED_FROM), key=lambda n: -weighted[n]
    )
    return float(1 - np.exp(-sum(weighted.values()))), [REASONS[name] for name in strongest]


def separations(overlap: Floats) -> int:
    """How often an overlap of at least MERGED_OVERLAP is followed by one below SEPARATED_OVERLAP.

    Args:
        overlap: largest overlap with another object on each visible frame, NaN where it is not known.
    """
    states = np.where(overlap >= MERGED_OVERLAP, 1, np.where(overlap < SEPARATED_OVERLAP, -1, 0))
    states = states[states != 0]
    return int(np.count_nonzero((states[:-1] == 1) & (states[1:] == -1)))


def floats(rows: pa.Table, name: str) -> Floats:
    """A column as float64, NaN where it is null and everywhere if older labels lack it."""
    if name not in rows.schema.names:
        return np.full(rows.num_rows, np.nan)
    column = rows.column(name)
    column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    return column.cast(pa.float64()).to_numpy()


def _mean(values: npt.NDArray[np.generic]) -> float:
    known = values.astype(np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else 0.0


def _worst(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, 0.9)) if known.size else 0.0
