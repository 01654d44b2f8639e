"""From low-resolution logits to masks of the displayed frame."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How logits become masks."""

    mask_threshold: float = 0.0
    max_hole_area: float = 0.0
    """Background areas of at most this many displayed pixels, enclosed by the mask, are filled."""
    max_sprinkle_area: float = 0.0
    """Mask areas of at most this many displayed pixels are dropped."""
    non_overlapping: bool = False
    """A pixel claimed by several objects goes to the one with the highest logit."""

    def masks(self, logits: torch.Tensor, *, height: int, width: int) -> torch.Tensor:
        """(O, h, w) logits to (O, height, width) bool on the same device."""
        with torch.inference_mode():
            full = F.interpolate(logits[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
            masks = full > self.mask_threshold
            if self.non_overlapping and len(masks) > 1:
                best = full.masked_fill(~masks, -torch.inf).argmax(dim=0)
                masks &= best == torch.arange(len(masks), device=best.device)[:, None, None]
            return masks
