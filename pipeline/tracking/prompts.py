"""What is tracked and where its frames come from: prompts, objects, frame sources, tracked frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import PromptError

Direction = Literal["forward", "backward", "both"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePrompt:
    """One object's prompt on one frame, in pixels of the displayed frame: points and box, or a mask alone."""

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
            raise ValueError("Points and labels come together.")
        if self.mask is not None and (self.points is not None or self.box is not None):
            raise ValueError("A mask excludes points and a box on the same frame.")
        if self.mask is None and self.points is None and self.box is None:
            raise ValueError("A prompt needs points, a box or a mask.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedObject:
    object_id: int
    prompts: Mapping[int, FramePrompt]
    """By frame index; several are refinements, and each stands alone: SAM2 runs a prompted frame without memory."""
    corrections: Mapping[int, FramePrompt] = field(default_factory=dict)
    """By frame index, points or a box (points off the object may be alone). Where the pass arrives at the frame, they
    run with its memory and the logits just tracked there, as Meta's predictor does in interactive use."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"Object {self.object_id} has no prompt.")
        if self.prompts.keys() & self.corrections.keys():
            raise ValueError(f"Object {self.object_id} has a prompt and a correction on one frame.")
        if any(correction.mask is not None for correction in self.corrections.values()):
            raise ValueError("A correction takes points or a box; a mask needs no correction.")

    @property
    def start(self) -> int:
        """The frame its propagation starts from: its earliest prompted one."""
        return min(self.prompts)

    def says(self, frame: int) -> bool:
        """Whether the frame is prompted, by a prompt or a correction."""
        return frame in self.prompts or frame in self.corrections


class FrameSource(Protocol):
    """A video's frames as the model wants them: fp32 (3, S, S), by index in presentation order."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]: ...
    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]: ...
    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFrame:
    """All objects that have a row on one frame, in the order they were given; tensors on the model's device."""

    frame_index: int
    object_ids: tuple[int, ...]
    is_prompted: tuple[bool, ...]
    logits: torch.Tensor
    """(O, h, w) fp32 at the model's low resolution; -1024 everywhere where the object is absent."""
    object_logit: torch.Tensor
    """(O,) fp32, above 0 where the object is present; NaN where a mask prompt sets it."""
    predicted_iou: torch.Tensor
    """(O,) fp32, the decoder's estimate for the mask it chose; NaN where a mask prompt sets it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPrompt:
    """A FramePrompt in the model's coordinates, as Sam2VideoProcessor makes it."""

    points: torch.Tensor | None
    """(n, 2) fp32; a box is its first two points."""
    labels: torch.Tensor | None
    """(n,), with 2 and 3 for the corners of a box."""
    mask: torch.Tensor | None
    """(1, S, S) fp32 of 0 and 1."""

    @property
    def signature(self) -> int:
        """Prompts of the same signature may share a batch: points are never padded, since padding counts as a point."""
        return -1 if self.labels is None else len(self.labels)


def check(objects: Sequence[TrackedObject], direction: str) -> None:
    if direction not in ("forward", "backward", "both"):
        raise ValueError(f"Invalid direction ({direction}). Supported values are forward, backward, both.")
    if not objects:
        raise ValueError("Nothing to track: no objects.")
    if len({o.object_id for o in objects}) != len(objects):
        raise ValueError("Object ids must be unique.")
    for o in objects:
        for t in o.corrections:
            if (direction == "forward" and t < o.start) or (direction == "backward" and t > o.start):
                raise PromptError(
                    f"Object {o.object_id} has a correction on frame {t}, which tracking {direction} from frame "
                    f"{o.start} does not reach."
                )


def to_model(prompt: FramePrompt, source: FrameSource, *, target: int) -> ModelPrompt:
    """`target` is the model's image size."""
    if prompt.mask is not None:
        mask = torch.from_numpy(np.ascontiguousarray(prompt.mask)).float()[None, None]
        if mask.shape[-2:] != (target, target):
            mask = torch.nn.functional.interpolate(
                mask, size=(target, target), align_corners=False, mode="bilinear", antialias=True
            )
            mask = (mask >= 0.5).float()
        return ModelPrompt(points=None, labels=None, mask=mask[0])
    points, labels = [], []
    if prompt.box is not None:
        points.append(torch.tensor(np.asarray(prompt.box, dtype=np.float32)).reshape(2, 2))
        labels.append(torch.tensor([2, 3]))
    if prompt.points is not None and prompt.labels is not None:
        points.append(torch.tensor(np.asarray(prompt.points, dtype=np.float32)).reshape(-1, 2))
        labels.append(torch.tensor(np.asarray(prompt.labels, dtype=np.int64)))
    scaled = torch.cat(points)
    scaled[:, 0] = scaled[:, 0] * (target / source.width)
    scaled[:, 1] = scaled[:, 1] * (target / source.height)
    return ModelPrompt(points=scaled, labels=torch.cat(labels), mask=None)
