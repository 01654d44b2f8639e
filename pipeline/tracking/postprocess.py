"""Low-resolution logits to masks of the displayed frame."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.masks.components import drop_sprinkles, fill_holes
from pipeline.tracking.transfer import download

logger = logging.getLogger(__name__)

_MAX_LOGITS_BYTES = 256 << 20
"""Enlarged logits that are in memory together, unless masks must not overlap."""


@dataclass(frozen=True, kw_only=True)
class MaskPostprocessor:
    """Enlarges logits as transformers' `post_process_masks` does, then applies its fields in their order."""

    mask_threshold: float = 0.0
    max_hole_area: float = 0.0
    """Largest background area that is filled, in displayed pixels (default: 0, none)."""
    max_sprinkle_area: float = 0.0
    """Largest mask area that is dropped, after filling, in displayed pixels (default: 0, none)."""
    non_overlapping: bool = False
    """Give a pixel that is in several masks to the object with the highest logit."""

    def masks(self, logits: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
        """(O, h, w) logits of one frame to (O, height, width) bool on the host."""
        masks, _ = self.to_host(logits, height=height, width=width)
        return torch.from_numpy(masks)

    def to_host(
        self, logits: torch.Tensor, *, height: int, width: int, extra: Sequence[torch.Tensor] = ()
    ) -> tuple[NDArray[np.bool_], list[NDArray[Any]]]:
        """(O, h, w) logits of one frame to (O, height, width) masks on the host, and `extra` tensors beside them.

        From a GPU it is one packed copy, and a second one if masks must not overlap after small areas were changed. The
        masks' columns are then contiguous, as run-length encoding reads them. A frame that does not fit into the GPU's
        memory is postprocessed on the host.
        """
        try:
            with torch.inference_mode():
                return self._to_host(logits, (height, width), extra)
        except torch.OutOfMemoryError as error:
            if logits.device.type == "cpu":
                raise
            logger.warning("Out of memory in postprocessing (%s); this frame is postprocessed on the host.", error)
        with torch.inference_mode():
            on_host, *others = download([logits, *extra])
            masks, _ = self._to_host(torch.from_numpy(on_host), (height, width), ())
            return masks, others

    def _to_host(
        self, logits: torch.Tensor, size: tuple[int, int], extra: Sequence[torch.Tensor]
    ) -> tuple[NDArray[np.bool_], list[NDArray[Any]]]:
        areas = self.max_hole_area > 0 or self.max_sprinkle_area > 0
        full = None
        if self.non_overlapping and len(logits) > 1:
            full = _enlarged(logits, size)
            on_device = full > self.mask_threshold
            if not areas:
                on_device = _without_overlap(on_device, full)
        else:
            together = max(1, _MAX_LOGITS_BYTES // (4 * size[0] * size[1]))
            parts = [_enlarged(part, size) > self.mask_threshold for part in logits.split(together)]
            on_device = parts[0] if len(parts) == 1 else torch.cat(parts)
        masks, *others = download([_in_columns(on_device), *extra])
        if self.max_hole_area > 0:
            masks = fill_holes(masks, self.max_hole_area)
        if self.max_sprinkle_area > 0:
            masks = drop_sprinkles(masks, self.max_sprinkle_area)
        if full is not None and areas:
            claimed = torch.from_numpy(masks).to(full.device)
            (masks,) = download([_in_columns(_without_overlap(claimed, full))])
        return masks, others


def _enlarged(logits_ohw: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(logits_ohw[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _without_overlap(claimed_ohw: torch.Tensor, full_ohw: torch.Tensor) -> torch.Tensor:
    owner = full_ohw.masked_fill(~claimed_ohw, -torch.inf).argmax(0)
    return claimed_ohw & (owner == torch.arange(len(full_ohw), device=owner.device)[:, None, None])


def _in_columns(masks_ohw: torch.Tensor) -> torch.Tensor:
    """The masks with contiguous columns, on a GPU: a transposition costs nothing there and much on the host."""
    if masks_ohw.device.type == "cpu":
        return masks_ohw
    return masks_ohw.transpose(1, 2).contiguous().transpose(1, 2)
