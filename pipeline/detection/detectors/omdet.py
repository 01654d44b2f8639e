"""OmDet-Turbo: classes and a task, "Detect car, person.", as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.detection.detectors.detector import Found, PreparedFrame, Rgb, found_of, sizes_of, stacked
from pipeline.detection.detectors.text import TextDetector, without_mask
from pipeline.detection.settings import DetectionParameters
from pipeline.tracking.modelfiles import ResolvedModel

NMS_IOU = 0.5
"""Of two boxes of one class that overlap more, the better one is kept; transformers' default."""


@dataclass(frozen=True, kw_only=True)
class OmDetDetector(TextDetector):
    """A detector with text embeddings that are computed once and cached."""

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """The frame resized and normalized."""
        return without_mask(super().prepare(rgb))

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Boxes of each class after non-maximum suppression."""
        text = {name: tensor.repeat(len(frames), *[1] * (tensor.ndim - 1)) for name, tensor in self.text.items()}
        outputs = self.model(**stacked(frames, self.device), **text)
        results = self.processor.post_process_grounded_object_detection(
            outputs,
            text_labels=[list(self.classes)] * len(frames),
            threshold=self.threshold,
            nms_threshold=NMS_IOU,
            target_sizes=sizes_of(frames),
        )
        return [
            found_of(result["boxes"], result["scores"], result["text_labels"], height=frame.height, width=frame.width)
            for frame, result in zip(frames, results, strict=True)
        ]


def make(model: Any, processor: Any, resolved: ResolvedModel, parameters: DetectionParameters) -> OmDetDetector:
    """The detector of a loaded model."""
    blank = np.zeros((8, 8, 3), np.uint8)
    encoded = processor(images=blank, text=[list(parameters.classes)], return_tensors="pt")
    names = [name for name in encoded if name.startswith(("classes_", "tasks_"))]
    return OmDetDetector(
        model=model,
        processor=processor,
        digest=resolved.digest,
        threshold=parameters.least_score,
        classes=parameters.classes,
        text={name: encoded[name].to(model.device) for name in names},
    )
