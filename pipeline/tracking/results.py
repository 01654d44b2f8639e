"""The results of a step for a batch of tracks."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

import torch

from pipeline.tracking.transfer import to_device


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """One row per track, B rows."""

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
        """Rows `start` to `stop`, as views."""
        return Results(**{f.name: getattr(self, f.name)[start:stop] for f in fields(self)})

    def ordered(self, order: Sequence[int]) -> "Results":
        """These rows in another order: row n of the result is row `order[n]` here."""
        if list(order) == list(range(len(order))):
            return self
        index = to_device(torch.tensor(order), self.logits.device)
        return Results(**{f.name: getattr(self, f.name).index_select(0, index) for f in fields(self)})

    @staticmethod
    def cat(parts: Sequence["Results"]) -> "Results":
        """The rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return Results(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Results)})

    def split(self, counts: Sequence[int]) -> list["Results"]:
        """Consecutive rows, `counts[n]` of them in part n, as views."""
        starts = [0, *accumulate(counts)]
        return [self.rows(start, start + count) for start, count in zip(starts, counts, strict=False)]
