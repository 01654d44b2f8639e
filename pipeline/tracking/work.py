"""What a propagation asks of the model and what it gets: the seam between the order of things and the batches."""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from pipeline.tracking.bank import BankLimits, Recall
from pipeline.tracking.prompts import ModelPrompt
from pipeline.tracking.results import Results
from pipeline.tracking.sam2.encoder import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """What a user says of one track on the frame it has just arrived at."""

    recall: Recall
    prompt: ModelPrompt
    logits: torch.Tensor
    """(h, w) fp32, as tracked there without it."""


@dataclass(kw_only=True)
class Work:
    """What a propagation asks of the model at once: encode frames, then run prompts and tracks on them."""

    encode: list[torch.Tensor] = field(default_factory=list)
    prompts: list[tuple[Features | int, ModelPrompt]] = field(default_factory=list)
    """Features, or the index of a frame in `encode`."""
    tracks: list[tuple[Features | int, Recall]] = field(default_factory=list)
    corrections: list[tuple[Features, Correction]] = field(default_factory=list)


@dataclass(kw_only=True)
class Done:
    features: list[Features]
    prompts: Results | None
    tracks: Results | None
    corrections: Results | None


class Model(Protocol):
    """What a propagation needs of the engine."""

    @property
    def limits(self) -> BankLimits: ...
    @property
    def max_pointers(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def frames_ahead(self) -> int: ...
    def join(self, lane: object) -> None: ...
    def leave(self, lane: object) -> None: ...
    def submit(self, lane: object, work: Work) -> Done: ...
