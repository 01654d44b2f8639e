"""Prompts in the form of SAM2's prompt encoder."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.tracking.objects import FramePrompt


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelPrompt:
    """A `FramePrompt` in the model's coordinates, as Sam2VideoProcessor makes it."""

    points: torch.Tensor | None
    """(n, 2) fp32; a box is its first two points."""
    labels: torch.Tensor | None
    """(n,), with 2 and 3 for the corners of a box."""
    mask: torch.Tensor | None
    """(1, S, S) fp32 of 0 and 1."""

    @property
    def signature(self) -> int:
        """Prompts of the same signature can share a batch. Points are never padded, because SAM2 counts padding."""
        return -1 if self.labels is None else len(self.labels)


def to_model(prompt: FramePrompt, *, height: int, width: int, target: int) -> ModelPrompt:
    """The prompt of a displayed frame in coordinates of the model's `target` x `target` image."""
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
    scaled[:, 0] = scaled[:, 0] * (target / width)
    scaled[:, 1] = scaled[:, 1] * (target / height)
    return ModelPrompt(points=scaled, labels=torch.cat(labels), mask=None)
