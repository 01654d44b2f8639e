"""The interfaces between propagation, engine and model family: what a step is asked for and what it returns."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.tracking import EngineKind
from pipeline.tracking.bank import BankLimits, MemoryContext
from pipeline.tracking.objects import FramePrompt
from pipeline.tracking.results import Results

Features: TypeAlias = Any
"""One encoded frame, in a form that only the model family knows."""
ModelPrompt: TypeAlias = Any
"""A prompt in the form that the model family's step takes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Correction:
    """A user's correction of one track on the frame that was just tracked."""

    context: MemoryContext
    prompt: ModelPrompt
    logits: torch.Tensor
    """(h, w) fp32, tracked on that frame without the correction."""


@dataclass(kw_only=True)
class StepRequest:
    """Frames to encode, and the prompts and tracks to run on them."""

    encode: list[torch.Tensor] = field(default_factory=list)
    prompts: list[tuple[Features | int, ModelPrompt]] = field(default_factory=list)
    """Features, or the index of a frame in `encode`."""
    tracks: list[tuple[Features | int, MemoryContext]] = field(default_factory=list)
    corrections: list[tuple[Features, Correction]] = field(default_factory=list)


@dataclass(kw_only=True)
class StepResult:
    """The results of a `StepRequest`, in its order."""

    features: list[Features]
    prompts: Results | None
    tracks: Results | None
    corrections: Results | None
    done: torch.cuda.Event | None
    """On a GPU: the end of the batch."""


class Stepper(Protocol):
    """What the engine needs of a model family: batches of frames, prompts, tracks and corrections."""

    @property
    def engine(self) -> EngineKind: ...
    @property
    def limits(self) -> BankLimits: ...
    @property
    def max_pointers(self) -> int: ...
    @property
    def frames_at_once(self) -> int: ...
    def prepare(self, prompt: FramePrompt, *, height: int, width: int) -> ModelPrompt: ...
    def inference(self) -> AbstractContextManager[None]: ...
    def encode(self, pixels: Sequence[torch.Tensor]) -> list[Features]: ...
    def prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results: ...
    def track(self, items: Sequence[tuple[Features, MemoryContext]]) -> Results: ...
    def correct(self, items: Sequence[tuple[Features, Correction]]) -> Results: ...


class LoadedModel(Protocol):
    """A model of any family, in memory."""

    @property
    def model(self) -> Any:
        """transformers' video model."""

    @property
    def processor(self) -> Any:
        """transformers' processor of the model."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    def resize(self, rgb: NDArray[np.uint8]) -> torch.Tensor: ...
    def stepper(self, *, dtype: torch.dtype) -> Stepper:
        """The family's fast stepper, or a `ReferenceStepper` if it has none."""
        ...


class SteppedModel(Protocol):
    """What a propagation needs of the engine."""

    @property
    def limits(self) -> BankLimits: ...
    @property
    def max_pointers(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def frames_ahead(self) -> int: ...
    def prepare(self, prompt: FramePrompt, *, height: int, width: int) -> ModelPrompt: ...
    def join(self, lane: object) -> None: ...
    def leave(self, lane: object) -> None: ...
    def submit(self, lane: object, request: StepRequest) -> StepResult: ...
