"""The rows of the masklets table: one object's mask rows summarized."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.labels.measures.doubt import (
    WHOLE_FRAME_SHARE,
    doubt_of,
    floats,
    jumps,
    separations,
    signals_of,
)


def masklet_row(object_id: int, rows: pa.Table, *, pixels: int) -> dict[str, Any]:
    """Columns of MASKLETS for one object, those of its video left out.

    Args:
        object_id: the object.
        rows: its mask rows in frame order.
        pixels: height x width of the displayed frame.
    """
    frames = rows.column("frame_index").to_numpy()
    present = rows.column("is_present").to_numpy()
    visible = np.flatnonzero(present)
    row: dict[str, Any] = {
        "object_id": object_id,
        "frames": len(frames),
        "prompted_frames": int(np.count_nonzero(rows.column("is_prompted").to_numpy())),
        "visible_frames": len(visible),
        "gaps": 0,
        "longest_gap": 0,
        **masklet_quality(rows, pixels=pixels),
    }
    if not len(visible):
        return row
    first, last = visible[0], visible[-1]
    absent = np.diff(visible) - 1
    times = rows.column("time_s").to_numpy()
    row |= {
        "first_frame": int(frames[first]),
        "last_frame": int(frames[last]),
        "first_time_s": float(times[first]),
        "last_time_s": float(times[last]),
        "gaps": int(np.count_nonzero(absent)),
        "longest_gap": int(absent.max(initial=0)),
        "mean_area": float(rows.column("area").to_numpy()[visible].mean()),
    }
    for column, name in (("object_logit", "logit"), ("predicted_iou", "iou")):
        scores = rows.column(column).to_numpy()[visible].astype(np.float64)
        scores = scores[~np.isnan(scores)]
        if scores.size:
            row |= {f"mean_{name}": float(scores.mean()), f"min_{name}": float(scores.min())}
    return row


def masklet_quality(rows: pa.Table, *, pixels: int) -> dict[str, Any]:
    """Quality columns of MASKLETS from one object's mask rows in frame order; `pixels` of a frame.

    * visible_share: visible_frames / frames.
    * appearances, disappearances: how often the object becomes visible again, and how often it stops being visible.
    * mean_stability, min_stability: over visible frames.
    * jumps, whole_frame_masks: numbers of frames; see `jumps` and WHOLE_FRAME_SHARE.
    * max_overlap: the largest overlap with another object; swap_suspicions: see `separations`.
    * drift: as in `signals_of`; null without a second pass.
    * doubt and reasons: see `doubt_of`.
    """
    area = floats(rows, "area")
    visible = area > 0
    changes = np.diff(visible.astype(np.int8))
    stability, overlap = floats(rows, "stability")[visible], floats(rows, "overlap")[visible]
    stability, overlaps = stability[~np.isnan(stability)], overlap[~np.isnan(overlap)]
    signals = signals_of(rows, pixels=pixels)
    doubt, reasons = doubt_of(signals)
    compared = not np.isnan(floats(rows, "agreement")).all()
    return {
        "visible_share": np.count_nonzero(visible) / max(len(visible), 1),
        "appearances": int(np.count_nonzero(changes > 0)),
        "disappearances": int(np.count_nonzero(changes < 0)),
        "mean_stability": float(stability.mean()) if stability.size else None,
        "min_stability": float(stability.min()) if stability.size else None,
        "jumps": int(np.count_nonzero(jumps(rows))),
        "whole_frame_masks": int(np.count_nonzero(area > WHOLE_FRAME_SHARE * pixels)),
        "max_overlap": float(overlaps.max()) if overlaps.size else None,
        "swap_suspicions": separations(overlap),
        "drift": signals["drift"] if compared else None,
        "doubt": doubt,
        "reasons": reasons,
    }
