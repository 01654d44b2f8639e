"""What the model gives for a batch of tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """Of B tracks."""

    logits: torch.Tensor
    """(B, h, w) fp32"""
    object_logit: torch.Tensor
    """(B,) fp32"""
    predicted_iou: torch.Tensor
    """(B,) fp32"""
    memory: torch.Tensor
    """(B, HW, M) bf16"""
    pointer: torch.Tensor
    """(B, C) fp32"""

    def rows(self, start: int, stop: int) -> "Results":
        return Results(**{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})

    def ordered(self, order: Sequence[int]) -> "Results":
        """Row n of the result is this one's row `order[n]`."""
        if list(order) == list(range(len(order))):
            return self
        index = torch.tensor(order).to(self.logits.device, non_blocking=True)
        return Results(**{f.name: getattr(self, f.name).index_select(0, index) for f in fields(self)})

    @staticmethod
    def cat(parts: Sequence["Results"]) -> "Results":
        if len(parts) == 1:
            return parts[0]
        return Results(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Results)})
