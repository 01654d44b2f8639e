"""Grounding DINO and MM-Grounding-DINO: all classes in one text prompt, "car. person."."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.image_transforms import center_to_corners_format

from pipeline.detection.detectors.detector import Found, PreparedFrame, found_of, stacked
from pipeline.detection.detectors.text import TextDetector
from pipeline.detection.settings import DetectionParameters
from pipeline.errors import ModelError
from pipeline.tracking.modelfiles import ResolvedModel


@dataclass(frozen=True, kw_only=True)
class GroundingDetector(TextDetector):
    """A detector that scores every token of a text prompt for every box."""

    tokens: torch.Tensor
    """(classes, T) bool: the tokens of each class."""

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Each box with the class whose best token has the highest score.

        transformers names a box by the words of all its tokens above a second threshold, which may mix classes.
        """
        text = {name: tensor.expand(len(frames), -1) for name, tensor in self.text.items()}
        outputs = self.model(**stacked(frames, self.device), **text)
        length = self.tokens.shape[1]
        scores_bqt = outputs.logits[..., :length].sigmoid().nan_to_num(0.0)
        scores_bqc = torch.stack([scores_bqt[..., mask].amax(-1) for mask in self.tokens], dim=-1)
        best_bq, class_bq = scores_bqc.max(-1)
        corners: Any = center_to_corners_format(outputs.pred_boxes)
        found = []
        for at, frame in enumerate(frames):
            boxes, best, which = corners[at], best_bq[at], class_bq[at]
            keep = best > self.threshold
            scale = torch.tensor([frame.width, frame.height, frame.width, frame.height], device=boxes.device)
            names = [self.classes[number] for number in which[keep].tolist()]
            found.append(found_of(boxes[keep] * scale, best[keep], names, height=frame.height, width=frame.width))
        return found


def make(model: Any, processor: Any, resolved: ResolvedModel, parameters: DetectionParameters) -> GroundingDetector:
    """The detector of a loaded model.

    Raises:
        ModelError: The classes are too many for one prompt.
    """
    prompt = "".join(f"{name}. " for name in parameters.classes).strip()
    encoded = processor.tokenizer(prompt, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    limit = int(model.config.max_text_len)
    count = len(parameters.classes)
    if len(offsets) > limit:
        raise ModelError(
            f"Model {resolved.name}: {count} classes take {len(offsets)} tokens; {limit} are allowed. Name fewer, or "
            "detect in several runs."
        )
    tokens, start = [], 0
    for name in parameters.classes:
        end = start + len(name)
        tokens.append([low < high and start <= low and high <= end for low, high in offsets])
        start = end + 2
    return GroundingDetector(
        model=model,
        processor=processor,
        digest=resolved.digest,
        threshold=parameters.least_score,
        classes=parameters.classes,
        text={name: tensor.to(model.device) for name, tensor in encoded.items()},
        tokens=torch.tensor(tokens, device=model.device),
    )
