"""OWLv2: one text query per class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.detection.detectors.detector import Found, PreparedFrame, found_of, sizes_of, stacked
from pipeline.detection.detectors.text import TextDetector
from pipeline.detection.settings import DetectionParameters
from pipeline.tracking.modelfiles import ResolvedModel

TEMPLATE = "a photo of a {}"
"""The query of a class, as in OWLv2's own examples (Minderer et al., 2023)."""


@dataclass(frozen=True, kw_only=True)
class OwlDetector(TextDetector):
    """A detector that compares every image patch with every query."""

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Each patch with its best query."""
        text = {name: tensor.repeat(len(frames), 1) for name, tensor in self.text.items()}
        outputs = self.model(**stacked(frames, self.device), **text)
        results = self.processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=sizes_of(frames)
        )
        return [
            found_of(
                result["boxes"],
                result["scores"],
                [self.classes[at] for at in result["labels"].tolist()],
                height=frame.height,
                width=frame.width,
            )
            for frame, result in zip(frames, results, strict=True)
        ]


def make(model: Any, processor: Any, resolved: ResolvedModel, parameters: DetectionParameters) -> OwlDetector:
    """The detector of a loaded model."""
    queries = [TEMPLATE.format(name) for name in parameters.classes]
    encoded = processor.tokenizer(queries, padding="max_length", truncation=True,
        max_length=model.config.text_config.max_position_embeddings, return_tensors="pt")  # fmt: skip
    return OwlDetector(
        model=model,
        processor=processor,
        digest=resolved.digest,
        threshold=parameters.least_score,
        classes=parameters.classes,
        text={name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")},
    )
