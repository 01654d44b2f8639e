"""The state of a propagation between two frames: all that another propagation needs to continue from there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from pipeline.tracking.bank import MemoryBank


class Rows(NamedTuple):
    """The result rows of n objects on one frame."""

    logits: torch.Tensor
    """(n, h, w)"""
    object_logit: torch.Tensor
    """(n,)"""
    predicted_iou: torch.Tensor
    """(n,)"""


@dataclass(kw_only=True)
class State:
    banks: list[MemoryBank]
    """In the objects' order."""
    reverse: bool
    """Whether the propagation is in its backward pass."""
    next: int
    """The index of the next frame."""
    primed: bool = False
    """Whether the prompted frames have been run."""
    max_pointers: int | None = None
    """min(video length, the model's limit), or None before it is known."""
    prompted: dict[tuple[int, int], Rows] = field(default_factory=dict)
    """Rows of prompted frames that are not yet yielded, by frame and position of the object."""
    decisions: dict[str, Any] | None = None
    """What was decided while tracking, as JSON values: the objects that began as [id, start, end] under "objects"."""
    retirement: dict[str, Any] | None = None
    """The objects that ended because they were absent, as JSON values."""
    make_bank: Callable[[int], MemoryBank] | None = None
    """Makes the bank of a decided object from its start."""

    def to_bytes(self, owner: Mapping[str, Any]) -> bytes:
        """The state as safetensors; `owner` (JSON values) identifies the propagation it belongs to.

        Raise CHECKPOINT_FORMAT of the workers' checkpoints with every change after which older states do not fit.
        """
        tensors = {f"{i}/{name}": t for i, bank in enumerate(self.banks) for name, t in bank.to_tensors().items()}
        for (frame, i), row in self.prompted.items():
            tensors |= {f"row/{frame}/{i}/{n}": part for n, part in enumerate(row)}
        place: dict[str, Any] = {
            "primed": self.primed,
            "reverse": self.reverse,
            "next": self.next,
            "max_pointers": self.max_pointers,
        }
        if self.decisions is not None:
            place["decisions"] = self.decisions
        if self.retirement is not None:
            place["retired"] = self.retirement
        header = {"propagation": json.dumps({**owner, **place})}
        return save({name: t.contiguous().cpu() for name, t in tensors.items()}, header)

    def load(self, data: bytes, owner: Mapping[str, Any], device: torch.device) -> None:
        """Set this state to the one that `to_bytes` saved.

        Raises:
            ValueError: The saved state is damaged, or belongs to another owner. This state is then of no use.
        """
        try:
            self._load(data, owner, device)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"This checkpoint is damaged: {error!r}.") from error

    def _load(self, data: bytes, owner: Mapping[str, Any], device: torch.device) -> None:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        place = json.loads(header["__metadata__"]["propagation"])
        if {name: place[name] for name in owner} != owner:
            raise ValueError("This checkpoint belongs to other objects, prompts or direction.")
        tensors = {name: t.to(device) for name, t in load(data).items()}
        self.decisions, self.retirement = place.get("decisions"), place.get("retired")
        for _, start, _ in self.decisions["objects"] if self.decisions else ():
            assert self.make_bank is not None
            self.banks.append(self.make_bank(start))
        for i, bank in enumerate(self.banks):
            own = f"{i}/"
            bank.load({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})
        for name in tensors:
            if name.startswith("row/") and name.endswith("/0"):
                _, frame, position, _ = name.split("/")
                self.prompted[int(frame), int(position)] = Rows(*(tensors[name[:-1] + str(n)] for n in range(3)))
        self.primed, self.reverse = place["primed"], place["reverse"]
        self.next, self.max_pointers = place["next"], place["max_pointers"]
