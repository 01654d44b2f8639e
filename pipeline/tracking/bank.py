"""The memory bank of one object: bounded in size, saved to tensors and loaded back exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch


@dataclass(frozen=True, kw_only=True)
class BankLimits:
    memories: int
    """Number of latest tracked frames whose spatial memory is attended (SAM2: 6)."""
    pointers: int
    """Number of latest tracked frames whose object pointer is attended (SAM2: 15)."""
    conditioning: int
    """Number of prompted frames attended, the closest ones; -1 for all of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryContext:
    """What a frame attends to, in transformers' order: prompted frames, then the farthest to the nearest."""

    memories: list[torch.Tensor]
    ages: tuple[int, ...]
    """Per memory: 0 for a prompted frame, else its distance in frames."""
    pointers: list[torch.Tensor]
    distances: tuple[int, ...]
    """Per pointer: its distance in frames."""
    max_pointers: int
    """min(video length, the model's limit). Distances are divided by this number minus one."""
    frame: int
    reverse: bool
    prompted: Mapping[int, tuple[torch.Tensor, torch.Tensor]]
    """Memory and pointer of the prompted frames among which a model may choose."""
    bank: "MemoryBank"
    """The bank that all this is from, as it is before the frame is tracked."""


@dataclass(kw_only=True)
class MemoryBank:
    start: int
    """The object's earliest prompted frame."""
    limits: BankLimits
    keep_start: bool
    """Keep the frames right after `start` during the forward pass, for the backward pass that follows."""
    max_prompted: int | None = None
    """Attend to so many prompted frames, the latest that the pass has reached. None: all, or the model's limit."""
    prompted: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Memory (HW, C) bf16 and pointer (D,) fp32 by frame, in frame order."""
    memories: dict[int, torch.Tensor] = field(default_factory=dict)
    pointers: dict[int, torch.Tensor] = field(default_factory=dict)

    def add_prompted(self, frame: int, memory: torch.Tensor, pointer: torch.Tensor) -> None:
        self.prompted[frame] = (_own(memory), _own(pointer))
        if self.max_prompted is not None:
            kept = list(self.prompted)
            early = self.max_prompted if self.keep_start else 0
            for old in kept[early : -self.max_prompted]:
                del self.prompted[old]

    def add_tracked(self, frame: int, memory: torch.Tensor, pointer: torch.Tensor, *, reverse: bool) -> None:
        """Add a tracked frame, and drop the frames that no later frame of this pass or the next one attends."""
        keep = self.keep_start and not reverse and frame - self.start <= self.limits.pointers
        self.memories[frame] = _own(memory) if keep else memory
        self.pointers[frame] = _own(pointer) if keep else pointer
        for kept, reach in ((self.memories, self.limits.memories), (self.pointers, self.limits.pointers)):
            for old in [t for t in kept if abs(frame - t) >= reach and not self._needed_later(t, reach, reverse)]:
                del kept[old]

    def _needed_later(self, frame: int, reach: int, reverse: bool) -> bool:
        return self.keep_start and not reverse and frame - self.start < reach

    def clear(self) -> None:
        """Drop everything: the object has no later frame."""
        for kept in (self.prompted, self.memories, self.pointers):
            kept.clear()

    def context(self, frame: int, *, reverse: bool, max_pointers: int, since: int = 0) -> MemoryContext:
        """The memories that `frame` attends to, those of frames before `since` left out.

        `max_pointers` is min(video length, the model's limit).
        """
        if since:
            later = [{t: m for t, m in kept.items() if t >= since} for kept in (self.memories, self.pointers)]
            prompted = {t: m for t, m in self.prompted.items() if t >= since}
            bank = replace(self, prompted=prompted, memories=later[0], pointers=later[1])
            return bank.context(frame, reverse=reverse, max_pointers=max_pointers)
        sign = -1 if reverse else 1
        chosen = self._closest_prompted(frame) if self.max_prompted is None else self._latest_prompted(frame, sign)
        memories = [self.prompted[t][0] for t in chosen]
        ages = [0] * len(chosen)
        for age in range(self.limits.memories, 0, -1):
            t = frame - sign * age
            memory = self.memories.get(t)
            if memory is None and self.max_prompted is None and t in self.prompted and t not in chosen:
                memory = self.prompted[t][0]
            if memory is not None:
                memories.append(memory)
                ages.append(age)
        pointers = []
        distances = []
        for t in self.prompted if self.max_prompted is None else chosen:
            if (frame - t) * sign >= 0:
                pointers.append(self.prompted[t][1])
                distances.append((frame - t) * sign)
        for distance in range(1, max_pointers):
            tracked = self.pointers.get(frame - sign * distance)
            if tracked is not None:
                pointers.append(tracked)
                distances.append(distance)
        return MemoryContext(
            memories=memories,
            ages=tuple(ages),
            pointers=pointers,
            distances=tuple(distances),
            max_pointers=max_pointers,
            frame=frame,
            reverse=reverse,
            prompted=self.prompted if self.max_prompted is None else {t: self.prompted[t] for t in chosen},
            bank=self,
        )

    def _closest_prompted(self, frame: int) -> list[int]:
        """The attended prompted frames: nearest before, nearest at or after, then the nearest of the rest.

        The order is that of transformers' `_select_closest_cond_frames`.
        """
        limit = self.limits.conditioning
        if limit == -1 or len(self.prompted) <= limit:
            return list(self.prompted)
        chosen = [t for t in (max((t for t in self.prompted if t < frame), default=None),) if t is not None]
        chosen += [t for t in (min((t for t in self.prompted if t >= frame), default=None),) if t is not None]
        rest = sorted((t for t in self.prompted if t not in chosen), key=lambda t: abs(t - frame))
        return chosen + rest[: limit - len(chosen)]

    def _latest_prompted(self, frame: int, sign: int) -> list[int]:
        """The attended prompted frames in frame order: the latest that the pass has reached before `frame`."""
        reached = sorted((t for t in self.prompted if (frame - t) * sign > 0), key=lambda t: abs(frame - t))
        limits = [limit for limit in (self.max_prompted, self.limits.conditioning) if limit is not None and limit != -1]
        return sorted(reached[: min(limits)])

    def to_tensors(self) -> dict[str, torch.Tensor]:
        tensors = {}
        for t, (memory, pointer) in self.prompted.items():
            tensors[f"prompted/{t}/memory"] = memory
            tensors[f"prompted/{t}/pointer"] = pointer
        tensors |= {f"memory/{t}": memory for t, memory in self.memories.items()}
        tensors |= {f"pointer/{t}": pointer for t, pointer in self.pointers.items()}
        return tensors

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill an empty bank from `to_tensors`' result (in any order)."""
        by_frame = sorted((int(name.split("/")[1]), name) for name in tensors)
        for t, name in by_frame:
            kind = name.split("/")[0]
            if kind == "memory":
                self.memories[t] = tensors[name]
            elif kind == "pointer":
                self.pointers[t] = tensors[name]
            elif name.endswith("/memory"):
                self.prompted[t] = (tensors[name], tensors[f"prompted/{t}/pointer"])


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A copy: a view would keep the whole batch that the row was computed in."""
    return tensor.clone()
