"""Where a propagation stands between two frames: all that a later one needs to go on as if there had been no break."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save

from pipeline.tracking.bank import MemoryBank

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""(n, h, w) logits, (n,) object logits, (n,) predicted IoUs."""


@dataclass(kw_only=True)
class State:
    banks: Sequence[MemoryBank]
    """By the objects' positions."""
    reverse: bool
    """In the backward pass."""
    next: int
    """The frame that is stepped next."""
    primed: bool = False
    """The prompted frames have been run."""
    max_pointers: int | None = None
    """min(video length, the model's limit), once it is known."""
    prompted: dict[tuple[int, int], Rows] = field(default_factory=dict)
    """Rows of prompted frames that are not yet yielded, by frame and object's position."""

    def to_bytes(self, owner: Mapping[str, Any]) -> bytes:
        """As safetensors; `owner` (JSON values) says whose state it is."""
        tensors = {f"{i}/{name}": t for i, bank in enumerate(self.banks) for name, t in bank.to_tensors().items()}
        for (frame, i), row in self.prompted.items():
            tensors |= {f"row/{frame}/{i}/{n}": part for n, part in enumerate(row)}
        place = {"primed": self.primed, "reverse": self.reverse, "next": self.next, "max_pointers": self.max_pointers}
        header = {"propagation": json.dumps({**owner, **place})}
        return save({name: t.contiguous().cpu() for name, t in tensors.items()}, header)

    def load(self, data: bytes, owner: Mapping[str, Any], device: torch.device) -> None:
        """Stand where `to_bytes` was called.

        Raises:
            ValueError: The state belongs to another owner.
        """
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        place = json.loads(header["__metadata__"]["propagation"])
        if {name: place[name] for name in owner} != owner:
            raise ValueError("This checkpoint belongs to other objects, prompts or direction.")
        tensors = {name: t.to(device) for name, t in load(data).items()}
        for i, bank in enumerate(self.banks):
            own = f"{i}/"
            bank.load({name.removeprefix(own): t for name, t in tensors.items() if name.startswith(own)})
        for name in tensors:
            if name.startswith("row/") and name.endswith("/0"):
                _, frame, position, _ = name.split("/")
                logits, object_logit, predicted_iou = (tensors[name[:-1] + str(n)] for n in range(3))
                self.prompted[int(frame), int(position)] = (logits, object_logit, predicted_iou)
        self.primed, self.reverse = place["primed"], place["reverse"]
        self.next, self.max_pointers = place["next"], place["max_pointers"]
