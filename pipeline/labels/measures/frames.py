"""Measures of one frame's low-resolution logits, from counts of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.masks.components import count_parts

STABILITY_OFFSET = 1.0
"""Distance in logits of the lower and the higher threshold from the mask threshold, as in SAM's stability score."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitCounts:
    """Pixel counts of the low-resolution logits of O objects on one frame; M = logits > mask_threshold."""

    low: npt.NDArray[np.float32]
    """(O,) pixels above mask_threshold - STABILITY_OFFSET."""
    high: npt.NDArray[np.float32]
    """(O,) pixels above mask_threshold + STABILITY_OFFSET."""
    shared: npt.NDArray[np.float32]
    """(O, O) pixels that are in M of both objects; on the diagonal the area of M."""
    masks: npt.NDArray[np.bool_]
    """(O, h, w) M."""


def measure_logits(counts: LogitCounts, object_ids: Sequence[int]) -> dict[str, list[Any]]:
    """Columns of the masks table for one frame, one value per object.

    * stability = high / low: the IoU of the masks that the two thresholds give. Null where the lower threshold gives an
      empty mask.
    * parts: connected areas of M; pixels that touch at a corner are connected. 0 where M is empty.
    * overlap: the largest IoU of M with another object's M, and overlap_object_id the id of that object; 0 and null
      where M overlaps no other. Only objects tracked in the same pass are compared: under direction `both` an object's
      frames before its prompt are not compared with those of an object that was prompted earlier.
    """
    area = counts.shared.diagonal()
    overlap_oo = counts.shared / np.maximum(area[:, None] + area[None] - counts.shared, 1)
    np.fill_diagonal(overlap_oo, -1)
    closest = overlap_oo.argmax(1)
    overlap = np.maximum(overlap_oo.max(1), 0)
    return {
        "stability": [float(h / n) if n else None for h, n in zip(counts.high, counts.low, strict=True)],
        "parts": count_parts(counts.masks).tolist(),
        "overlap": overlap.tolist(),
        "overlap_object_id": [
            object_ids[i] if share > 0 else None for i, share in zip(closest.tolist(), overlap.tolist(), strict=True)
        ],
    }
