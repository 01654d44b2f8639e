"""Prompts, tracked objects, frame sources and tracked frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import PromptError
from pipeline.tracking.transfer import Ready

Direction = Literal["forward", "backward", "both"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePrompt:
    """One object's prompt on one frame, in pixels of the displayed frame: points and box, or a mask."""

    points: NDArray[np.float32] | None = None
    """(n, 2) as x, y."""
    labels: NDArray[np.int64] | None = None
    """(n,), 1 inside and 0 outside the object."""
    box: NDArray[np.float32] | None = None
    """(4,) as x_min, y_min, x_max, y_max."""
    mask: NDArray[np.bool_] | None = None
    """(H, W)."""

    def __post_init__(self) -> None:
        if (self.points is None) != (self.labels is None):
            raise ValueError("Points need labels, and labels need points.")
        if self.mask is not None and (self.points is not None or self.box is not None):
            raise ValueError("A mask excludes points and a box on the same frame.")
        if self.mask is None and self.points is None and self.box is None:
            raise ValueError("A prompt needs points, a box or a mask.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedObject:
    object_id: int
    prompts: Mapping[int, FramePrompt]
    """By frame index. SAM2 runs a prompted frame without memory, so each prompt must be complete in itself."""
    corrections: Mapping[int, FramePrompt] = field(default_factory=dict)
    """By frame index: points or a box; negative points alone are allowed. A correction runs with the frame's memory and
    with the logits that were just tracked on it, as in Meta's interactive predictor."""
    first: int = 0
    """The object has no row before this frame: a backward pass ends here."""
    end: int | None = None
    """The object has no row from this frame on. Another `TrackedObject` of the same id may begin there or later."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"Object {self.object_id} has no prompt.")
        if self.prompts.keys() & self.corrections.keys():
            raise ValueError(f"Object {self.object_id} has a prompt and a correction on one frame.")
        if any(correction.mask is not None for correction in self.corrections.values()):
            raise ValueError("A correction takes points or a box; a mask needs no correction: use a prompt.")
        for t in (*self.prompts, *self.corrections):
            if not self.first <= t or not (self.end is None or t < self.end):
                raise ValueError(
                    f"Object {self.object_id} has a prompt on frame {t}, outside its frames {self.frames}."
                )

    @property
    def start(self) -> int:
        """The frame from which it is propagated: its earliest prompted frame."""
        return min(self.prompts)

    @property
    def is_cut(self) -> bool:
        """Whether it is limited to some of the video's frames."""
        return self.first > 0 or self.end is not None

    @property
    def frames(self) -> str:
        """The frames on which it may have rows, for messages."""
        return f"{self.first} to {'the end' if self.end is None else self.end - 1}"

    def has_row(self, frame: int, direction: Direction) -> bool:
        """Whether tracking in this direction gives it a row on the frame; a backward pass after a forward one: both."""
        from_start, to_start = frame >= self.start, frame <= self.start
        reached = {"forward": from_start, "backward": to_start, "both": True}[direction]
        return reached and self.first <= frame and (self.end is None or frame < self.end)

    def is_prompted(self, frame: int) -> bool:
        """Whether the frame has a prompt or a correction."""
        return frame in self.prompts or frame in self.corrections


class FrameSource(Protocol):
    """A video's frames as the model takes them: uint8 (S, S, 3), by index in presentation order."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]: ...
    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]: ...
    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFrame:
    """The objects that have a row on one frame, in their given order. Tensors are on the model's device."""

    frame_index: int
    object_ids: tuple[int, ...]
    is_prompted: tuple[bool, ...]
    logits: torch.Tensor
    """(O, h, w) fp32 at the model's low resolution; -1024 everywhere if the object is absent."""
    object_logit: torch.Tensor
    """(O,) fp32, above 0 if the object is present; NaN for a mask prompt."""
    predicted_iou: torch.Tensor
    """(O,) fp32, the decoder's estimate for the mask that it chose; NaN for a mask prompt."""
    ready: Ready | None = None
    """On a GPU: when and on which stream the tensors can be read without waiting for later steps."""


def check(objects: Sequence[TrackedObject], direction: str, *, some_needed: bool = True) -> None:
    """Refuse what cannot be tracked.

    Raises:
        ValueError: The direction is unknown, there is no object, or two have one id and a common frame.
        PromptError: The direction does not reach a correction.
    """
    if direction not in ("forward", "backward", "both"):
        raise ValueError(f"Invalid direction ({direction}). Supported values are forward, backward, both.")
    if not objects and some_needed:
        raise ValueError("There is no object to track.")
    for one, other in pairwise(sorted(objects, key=lambda o: (o.object_id, o.first))):
        if one.object_id == other.object_id and (one.end is None or one.end > other.first):
            raise ValueError("Object ids must be unique on each frame.")
    for o in objects:
        for t in o.corrections:
            if (direction == "forward" and t < o.start) or (direction == "backward" and t > o.start):
                raise PromptError(
                    f"Object {o.object_id} has a correction on frame {t}, which tracking {direction} from frame "
                    f"{o.start} does not reach."
                )
