"""Measures of one frame's low-resolution masks, before these are enlarged."""

from typing import Any

import numpy as np
import torch

from pipeline.masks.components import count_parts

STABILITY_OFFSET = 1.0
"""How far the threshold is moved up and down, in logits, as in SAM's own stability score."""


def measure(
    logits_ohw: torch.Tensor, object_ids: tuple[int, ...], *, mask_threshold: float = 0.0
) -> dict[str, list[Any]]:
    """Columns of the masks table for one frame, a value for each object, from logits (O, h, w).

    With M = logits > mask_threshold:

    * stability = |logits > mask_threshold + 1| / |logits > mask_threshold - 1|: the IoU of the masks that a threshold
      one higher and one lower would give. Null where the lower one is empty.
    * parts: connected areas of M; pixels that touch at a corner are connected. 0 where M is empty.
    * overlap: the largest IoU of M with another object's M, and overlap_object_id whose; 0 and null where it meets
      none. Only objects that are tracked in the same pass are compared: under direction `both` an object's frames
      before its prompt do not meet those of an object that was prompted earlier.
    """
    with torch.inference_mode():
        low = (logits_ohw > mask_threshold - STABILITY_OFFSET).sum((1, 2))
        high = (logits_ohw > mask_threshold + STABILITY_OFFSET).sum((1, 2))
        masks_ohw = logits_ohw > mask_threshold
        flat = masks_ohw.flatten(1).float()
        shared = flat @ flat.T
        sums = torch.cat((torch.stack((low, high), 1).float(), shared), 1).cpu().numpy()
        masks = masks_ohw.cpu().numpy()
    low_area, high_area, shared_oo = sums[:, 0], sums[:, 1], sums[:, 2:]
    area = shared_oo.diagonal()
    overlap_oo = shared_oo / np.maximum(area[:, None] + area[None] - shared_oo, 1)
    np.fill_diagonal(overlap_oo, -1)
    closest = overlap_oo.argmax(1)
    overlap = np.maximum(overlap_oo.max(1), 0)
    return {
        "stability": [float(h / n) if n else None for h, n in zip(high_area, low_area, strict=True)],
        "parts": count_parts(masks).tolist(),
        "overlap": overlap.tolist(),
        "overlap_object_id": [
            object_ids[i] if share > 0 else None for i, share in zip(closest.tolist(), overlap.tolist(), strict=True)
        ],
    }
