"""A batch of tracks on one or several frames, and how the frames' features reach the tracks."""

from collections.abc import Sequence

import torch

from pipeline.tracking.bank import MemoryContext
from pipeline.tracking.sam2.encoder import Features


class FrameBatch:
    """The distinct frames of a batch of tracks."""

    def __init__(self, of_track: Sequence[Features]) -> None:
        distinct = list({id(f): f for f in of_track}.values())
        place = {id(f): n for n, f in enumerate(distinct)}
        self._of_track = [place[id(f)] for f in of_track]
        self._count = len(distinct)
        self.top_fnc = distinct[0].top_fnc if self._count == 1 else torch.cat([f.top_fnc for f in distinct])
        if self._count == 1:  # broadcast over the tracks
            self.s1, self.s0 = distinct[0].s1_fnpc, distinct[0].s0_fnppc
        else:
            self.s1 = torch.cat([f.s1_fnpc for f in of_track])
            self.s0 = torch.cat([f.s0_fnppc for f in of_track])

    def spread(self, *per_frame: torch.Tensor) -> list[torch.Tensor]:
        """Each (F, ...) of the frames as (B, ...) of the tracks."""
        if self._count == 1:
            return [x.expand(len(self._of_track), *x.shape[1:]) for x in per_frame]
        if self._of_track == list(range(self._count)):
            return list(per_frame)
        return [torch.cat([x[f : f + 1] for f in self._of_track]) for x in per_frame]


def memory_shape(context: MemoryContext) -> tuple[tuple[int, ...], int]:
    """Contexts of the same shape attend in one batch."""
    return context.ages, len(context.pointers)
