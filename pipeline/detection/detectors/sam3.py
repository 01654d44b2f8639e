"""SAM 3: every class is a concept prompt; gives boxes and masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.detection.detectors.detector import Found, PreparedFrame, Rgb, found_of, sizes_of, stacked
from pipeline.detection.detectors.text import TextDetector, without_mask
from pipeline.detection.settings import DetectionParameters
from pipeline.masks.rle import encode
from pipeline.tracking.modelfiles import ResolvedModel

MASK_THRESHOLD = 0.5
"""Probability above which a pixel is in the mask; transformers' default."""


@dataclass(frozen=True, kw_only=True)
class Sam3Detector(TextDetector):
    """SAM 3's image model: the vision encoder runs once a frame, the rest once a class."""

    frames_at_once: int = 2

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """The frame resized and normalized."""
        return without_mask(super().prepare(rgb))

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Boxes and masks of each class."""
        vision = self.model.get_vision_features(stacked(frames, self.device)["pixel_values"])
        boxes: list[list[torch.Tensor]] = [[] for _ in frames]
        scores: list[list[torch.Tensor]] = [[] for _ in frames]
        names: list[list[str]] = [[] for _ in frames]
        masks: list[list[str]] = [[] for _ in frames]
        for at, name in enumerate(self.classes):
            text = {key: tensor[at : at + 1].expand(len(frames), -1) for key, tensor in self.text.items()}
            outputs = self.model(vision_embeds=vision, **text)
            results = self.processor.post_process_instance_segmentation(
                outputs, threshold=self.threshold, mask_threshold=MASK_THRESHOLD, target_sizes=sizes_of(frames)
            )
            for frame, result in enumerate(results):
                boxes[frame].append(result["boxes"])
                scores[frame].append(result["scores"])
                names[frame] += [name] * len(result["scores"])
                masks[frame] += encode(result["masks"].bool().cpu().numpy())
        return [
            found_of(
                torch.cat(boxes[at]),
                torch.cat(scores[at]),
                names[at],
                height=frame.height,
                width=frame.width,
                masks=masks[at],
            )
            for at, frame in enumerate(frames)
        ]


def make(model: Any, processor: Any, resolved: ResolvedModel, parameters: DetectionParameters) -> Sam3Detector:
    """The detector of a loaded model."""
    encoded = processor.tokenizer(list(parameters.classes), return_tensors="pt", padding="max_length", max_length=32)
    return Sam3Detector(
        model=model,
        processor=processor,
        digest=resolved.digest,
        threshold=parameters.least_score,
        classes=parameters.classes,
        text={name: encoded[name].to(model.device) for name in ("input_ids", "attention_mask")},
    )
