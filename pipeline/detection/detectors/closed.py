"""Closed-set detectors: DETR, RT-DETR, D-FINE, RF-DETR. Their classes are those of their training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.detection.detectors.detector import Found, PreparedFrame, Rgb, found_of, sizes_of, stacked
from pipeline.detection.families import class_numbers
from pipeline.detection.settings import DetectionParameters
from pipeline.tracking.modelfiles import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class ClosedSetDetector:
    """A detector whose label numbers have names in its config.json."""

    model: Any
    processor: Any
    digest: str
    threshold: float
    names: dict[int, str]
    """The wanted classes by label number."""
    frames_at_once: int = 8

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """The frame as the image processor resizes and normalizes it."""
        return prepared(self.processor, rgb)

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Detections of the wanted classes."""
        outputs = self.model(**stacked(frames, self.device))
        results = self.processor.post_process_object_detection(
            outputs, threshold=self.threshold, target_sizes=sizes_of(frames)
        )
        found = []
        for frame, result in zip(frames, results, strict=True):
            labels = result["labels"].tolist()
            wanted = [at for at, label in enumerate(labels) if label in self.names]
            found.append(
                found_of(
                    result["boxes"][wanted],
                    result["scores"][wanted],
                    [self.names[labels[at]] for at in wanted],
                    height=frame.height,
                    width=frame.width,
                )
            )
        return found


def prepared(image_processor: Any, rgb: Rgb) -> PreparedFrame:
    """A displayed frame as an image processor resizes and normalizes it."""
    inputs = image_processor(images=rgb, return_tensors="pt", input_data_format="channels_last")
    names = [name for name in ("pixel_values", "pixel_mask") if name in inputs]
    return PreparedFrame(inputs={name: inputs[name][0] for name in names}, height=rgb.shape[0], width=rgb.shape[1])


def make(model: Any, processor: Any, resolved: ResolvedModel, parameters: DetectionParameters) -> ClosedSetDetector:
    """The detector of a loaded model."""
    return ClosedSetDetector(
        model=model,
        processor=processor,
        digest=resolved.digest,
        threshold=parameters.least_score,
        names=class_numbers(model.config.to_dict(), parameters.classes, resolved.name),
    )
