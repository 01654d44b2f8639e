"""The state of a propagation between two frames: all that another propagation needs to continue from there."""

import json
from collections.abc import Callable, Mapping, Sequence
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
    """What was decided while tracking, as JSON values: under "objects" those that began, as [id, start, first, end]."""
    retirement: dict[str, Any] | None = None
    """The objects that ended because they were absent, as JSON values."""
    make_bank: Callable[..., MemoryBank] | None = None
    """Makes the bank of a decided object from its start and its `first` frame."""

    def to_bytes(self, owner: Mapping[str, Any]) -> bytes:
        """The state as safetensors; `owner` (JSON values) identifies the propagation it belongs to.

        Raise CHECKPOINT_FORMAT of the workers' checkpoints with every change after which older states do not fit.
        """
        place: dict[str, Any] = {"primed": self.primed, **self._place()}
        if self.decisions is not None:
            place["decisions"] = self.decisions
        if self.retirement is not None:
            place["retired"] = self.retirement
        return self._save({**owner, **place}, range(len(self.banks)))

    def begun_to_bytes(self, owner: Mapping[str, Any], begun: Mapping[int, tuple[int, int]]) -> bytes:
        """The state of some objects alone, for a propagation with other objects and prompts after this frame.

        Args:
            owner: as of `to_bytes`.
            begun: id and first prompted frame of the objects that have begun, by their position.
        """
        return self._save({**owner, **self._place(), "begun": [*begun.values()]}, [*begun])

    def _place(self) -> dict[str, Any]:
        return {"reverse": self.reverse, "next": self.next, "max_pointers": self.max_pointers}

    def _save(self, header: Mapping[str, Any], positions: Sequence[int]) -> bytes:
        """The banks and rows of the objects at these positions, numbered in this order."""
        tensors = {f"{n}/{name}": t for n, i in enumerate(positions) for name, t in self.banks[i].to_tensors().items()}
        for (frame, i), row in self.prompted.items():
            if i in positions:
                tensors |= {f"row/{frame}/{positions.index(i)}/{n}": part for n, part in enumerate(row)}
        text = {"propagation": json.dumps(header)}
        return save({name: t.contiguous().cpu() for name, t in tensors.items()}, text)

    def load(self, data: bytes, owner: Mapping[str, Any], device: torch.device) -> None:
        """Set this state to the one that `to_bytes` saved.

        Raises:
            ValueError: The saved state is damaged, or belongs to another owner. This state is then of no use.
        """
        try:
            self._load(data, owner, device)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"This checkpoint is damaged: {error!r}.") from error

    def load_begun(
        self,
        data: bytes,
        owner: Mapping[str, Any],
        objects: Sequence[tuple[int, int]],
        device: torch.device,
    ) -> None:
        """Set this state to the one that `begun_to_bytes` saved; objects that begin later have empty banks.

        Args:
            data: the saved state.
            owner: as of `begun_to_bytes`.
            objects: id and first prompted frame of this propagation's objects, by position.
            device: where its tensors are.

        Raises:
            ValueError: The saved state is damaged, or other objects had begun. This state is then of no use.
        """
        try:
            place, tensors = _read(data, owner, device)
            begun = [(object_id, start) for object_id, start in place["begun"]]
            if set(begun) != {each for each in objects if each[1] < place["next"]}:
                raise ValueError("This state belongs to other objects or prompts.")
            self._fill(place, tensors, [objects.index(each) for each in begun])
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"This state is damaged: {error!r}.") from error

    def _load(self, data: bytes, owner: Mapping[str, Any], device: torch.device) -> None:
        place, tensors = _read(data, owner, device)
        self.decisions, self.retirement = place.get("decisions"), place.get("retired")
        for _, start, first, _ in self.decisions["objects"] if self.decisions else ():
            assert self.make_bank is not None
            self.banks.append(self.make_bank(start, first=first))
        self._fill(place, tensors, range(len(self.banks)))
        self.primed = place["primed"]

    def _fill(self, place: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], positions: Sequence[int]) -> None:
        """Take over saved banks and rows; object n of them has position `positions[n]` here."""
        for n, i in enumerate(positions):
            own = f"{n}/"
            self.banks[i].load({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})
        for name in tensors:
            if name.startswith("row/") and name.endswith("/0"):
                _, frame, number, _ = name.split("/")
                row = Rows(*(tensors[name[:-1] + str(part)] for part in range(3)))
                self.prompted[int(frame), positions[int(number)]] = row
        self.reverse, self.next, self.max_pointers = place["reverse"], place["next"], place["max_pointers"]


def _read(
    data: bytes, owner: Mapping[str, Any], device: torch.device
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The JSON values and the tensors of a saved state of this owner."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    place = json.loads(header["__metadata__"]["propagation"])
    if {name: place[name] for name in owner} != owner:
        raise ValueError("This checkpoint belongs to other objects, prompts or direction.")
    return place, {name: t.to(device) for name, t in load(data).items()}
