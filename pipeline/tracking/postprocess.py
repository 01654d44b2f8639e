"""Low-resolution logits to masks of the displayed frame."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pipeline.masks.components import drop_sprinkles, fill_holes


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
        """(O, h, w) logits of one frame to (O, height, width) bool on the host, with one wait for the device.

        From a GPU it is a view of masks that lie transposed, which is what run-length encoding wants.
        """
        with torch.inference_mode():
            full = F.interpolate(logits[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
            masks = _to_host(full > self.mask_threshold)
            if self.max_hole_area > 0:
                masks = torch.from_numpy(fill_holes(masks.numpy(), self.max_hole_area))
            if self.max_sprinkle_area > 0:
                masks = torch.from_numpy(drop_sprinkles(masks.numpy(), self.max_sprinkle_area))
            if self.non_overlapping and len(masks) > 1:
                masks = _without_overlap(masks.to(full.device), full)
        return masks


def _without_overlap(claimed_ohw: torch.Tensor, full_ohw: torch.Tensor) -> torch.Tensor:
    owner = full_ohw.masked_fill(~claimed_ohw, -torch.inf).argmax(0)
    return _to_host(claimed_ohw & (owner == torch.arange(len(full_ohw), device=owner.device)[:, None, None]))


def _to_host(masks_ohw: torch.Tensor) -> torch.Tensor:
    if masks_ohw.device.type == "cpu":
        return masks_ohw
    columns = masks_ohw.transpose(1, 2).contiguous()
    host = torch.empty(columns.shape, dtype=torch.bool, pin_memory=True)
    host.copy_(columns, non_blocking=True)
    copied = torch.cuda.Event(blocking=True)  # not the stream: the next frame's step may be in it by now
    copied.record(torch.cuda.current_stream(columns.device))
    copied.synchronize()
    return host.transpose(1, 2)
