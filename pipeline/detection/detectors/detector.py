"""What every detector offers: it prepares frames one at a time, and detects in batches of prepared ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedFrame:
    """A frame as a detector's network takes it."""

    inputs: Mapping[str, torch.Tensor]
    """On the host, without a batch dimension."""
    height: int
    width: int
    """Of the displayed frame, in pixels."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Frames of one shape can be in one batch without padding, which would change what is detected."""
        return tuple((name, tuple(tensor.shape)) for name, tensor in sorted(self.inputs.items()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was detected in one frame, best score first."""

    boxes: npt.NDArray[np.float32]
    """(n, 4): x_min, y_min, x_max, y_max in displayed pixels, within the frame and with an area."""
    scores: npt.NDArray[np.float32]
    """(n,): 0 to 1."""
    categories: Sequence[str | None]
    masks: Sequence[str] | None = field(default=None)
    """COCO RLE counts of each mask at the frame's size."""

    def __len__(self) -> int:
        return len(self.scores)


class Detector(Protocol):
    """A loaded detector."""

    @property
    def digest(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def frames_at_once(self) -> int:
        """Frames in the largest batch that is worth waiting for."""

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """A displayed frame, uint8 (H, W, 3), as the network takes it. Several threads may call this at once."""

    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """The detections of frames of one shape. Only one thread at a time may call this."""


def found_of(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    categories: Sequence[str | None],
    *,
    height: int,
    width: int,
    masks: Sequence[str] | None = None,
) -> Found:
    """Detections sorted by score, with boxes cut at the frame; boxes that lie outside or are not finite are left out.

    Coordinates are rounded to 1/64 pixel and scores to 1e-4: batches of other sizes compute other last digits.
    """
    xyxy = np.round(boxes.detach().float().cpu().numpy().reshape(-1, 4) * 64) / 64
    found = np.round(scores.detach().float().cpu().numpy().reshape(-1), 4)
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(found)
    xyxy = np.clip(np.where(finite[:, None], xyxy, 0), 0, np.array([width, height, width, height]))
    keep = finite & (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    order = np.array([at for at in np.lexsort((*xyxy.T, -found)) if keep[at]], np.int64)
    return Found(
        boxes=xyxy[order].astype(np.float32),
        scores=found[order].astype(np.float32),
        categories=[categories[at] for at in order],
        masks=None if masks is None else [masks[at] for at in order],
    )


def stacked(frames: Sequence[PreparedFrame], device: torch.device) -> dict[str, torch.Tensor]:
    """The inputs of frames of one shape as a batch on the device."""
    return {name: torch.stack([frame.inputs[name] for frame in frames]).to(device) for name in frames[0].inputs}


def sizes_of(frames: Sequence[PreparedFrame]) -> list[tuple[int, int]]:
    """Height and width of every frame."""
    return [(frame.height, frame.width) for frame in frames]
