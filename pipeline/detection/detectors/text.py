"""What detectors with classes given as text have in common."""

from dataclasses import dataclass
from typing import Any

import torch

from pipeline.detection.detectors.closed import prepared
from pipeline.detection.detectors.detector import PreparedFrame, Rgb


@dataclass(frozen=True, kw_only=True)
class TextDetector:
    """A loaded model with its classes, tokenized once."""

    model: Any
    processor: Any
    digest: str
    threshold: float
    classes: tuple[str, ...]
    text: dict[str, torch.Tensor]
    """The tokenized classes, in the form that the model takes."""
    frames_at_once: int = 4

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """The frame as the image processor resizes and normalizes it."""
        return prepared(self.processor.image_processor, rgb)


def without_mask(frame: PreparedFrame) -> PreparedFrame:
    """The frame without the pixel mask, which models of one frame size do not take."""
    pixels = {"pixel_values": frame.inputs["pixel_values"]}
    return PreparedFrame(inputs=pixels, height=frame.height, width=frame.width)
