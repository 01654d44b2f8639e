"""SAM 2's automatic mask generation: a grid of points, each an object; no classes.

As SAM2AutomaticMaskGenerator of facebookresearch/sam2, without crops. transformers' mask-generation pipeline scales
points as SAM 1 does, by the longer side, although SAM 2 stretches frames to a square: in frames that are not square its
grid covers only a part of the frame. On square frames both give the same masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torchvision.ops import nms

from pipeline.detection.detectors.detector import Found, PreparedFrame, Rgb, found_of, stacked
from pipeline.detection.settings import DetectionParameters
from pipeline.errors import ModelError
from pipeline.masks.rle import encode
from pipeline.tracking.modelfiles import ResolvedModel, first_line
from pipeline.tracking.sam2.model import no_progress_bar

POINTS_PER_SIDE = 32
POINTS_AT_ONCE = 64
STABILITY = 0.95
"""Least IoU of the masks at a logit above and below the threshold by STABILITY_OFFSET."""
STABILITY_OFFSET = 1.0
NMS_IOU = 0.7
"""Of two masks whose boxes overlap more, the one with the higher predicted IoU is kept."""


@dataclass(frozen=True, kw_only=True)
class Everything:
    """The image model of a SAM 2 checkpoint, prompted with a grid of points."""

    model: Any
    video_processor: Any
    digest: str
    threshold: float
    """Least predicted IoU."""
    points_per_side: int = POINTS_PER_SIDE
    frames_at_once: int = 4

    @classmethod
    def load(cls, resolved: ResolvedModel, parameters: DetectionParameters, device: torch.device) -> "Everything":
        """The model of a tracker's checkpoint.

        Raises:
            ModelError: A file cannot be read, or weights are missing.
        """
        name, folder = resolved.name, resolved.folder
        try:
            with no_progress_bar():
                model_class: Any = transformers.AutoModelForMaskGeneration
                model, report = model_class.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
                )
                processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise ModelError(f"Cannot load model {name} from {folder}: {first_line(error)}") from error
        if missing := sorted(report["missing_keys"]):
            raise ModelError(f"Model {name} at {folder} lacks {len(missing)} weights, the first is {missing[0]}.")
        return cls(
            model=model.float().eval().requires_grad_(False).to(device),
            video_processor=processor.video_processor,
            digest=resolved.digest,
            threshold=parameters.least_score,
        )

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    def prepare(self, rgb: Rgb) -> PreparedFrame:
        """The frame stretched to the model's square and normalized, as for tracking."""
        pixels = self.video_processor(videos=torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None], return_tensors="pt")
        inputs = {"pixel_values": pixels["pixel_values_videos"][0, 0]}
        return PreparedFrame(inputs=inputs, height=rgb.shape[0], width=rgb.shape[1])

    @torch.inference_mode()
    def detect(self, frames: Sequence[PreparedFrame]) -> list[Found]:
        """Masks of everything in the frames; the encoder takes all frames at once."""
        pixels = stacked(frames, self.device)["pixel_values"]
        levels = self.model.get_image_embeddings(pixels)
        size = pixels.shape[-1]
        return [self._segment([level[at : at + 1] for level in levels], frame, size) for at, frame in enumerate(frames)]

    def _segment(self, embeddings: list[torch.Tensor], frame: PreparedFrame, size: int) -> Found:
        chosen = [self._at_points(embeddings, frame, points) for points in self._grid(size)]
        masks, scores = torch.cat([masks for masks, _ in chosen]), torch.cat([scores for _, scores in chosen])
        boxes = _boxes_of(masks)
        kept = nms((boxes - boxes.new_tensor([0.0, 0.0, 1.0, 1.0])).clamp(min=0), scores, NMS_IOU)
        counts = encode(masks[kept].cpu().numpy()) if len(kept) else []
        none: list[str | None] = [None] * len(kept)
        size_of_frame = {"height": frame.height, "width": frame.width}
        return found_of(boxes[kept], scores[kept].clamp(max=1.0), none, masks=counts, **size_of_frame)

    def _at_points(
        self, embeddings: list[torch.Tensor], frame: PreparedFrame, points: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks (n, H, W) bool and predicted IoUs (n,) of the good masks at some points (1, P, 1, 2)."""
        outputs = self.model(
            image_embeddings=embeddings,
            input_points=points,
            input_labels=torch.ones(points.shape[:-1], dtype=torch.int64, device=self.device),
            multimask_output=True,
        )
        scores = outputs.iou_scores[0].flatten()
        good = scores > self.threshold
        if not good.any():  # interpolation refuses tensors without elements
            empty = torch.zeros((0, frame.height, frame.width), dtype=torch.bool, device=self.device)
            return empty, scores[good]
        logits = F.interpolate(
            outputs.pred_masks[0].flatten(0, 1)[good][None], (frame.height, frame.width), mode="bilinear"
        )[0]
        inner = (logits > STABILITY_OFFSET).sum((-1, -2))
        outer = (logits > -STABILITY_OFFSET).sum((-1, -2))
        stable = inner > STABILITY * outer
        return logits[stable] > 0, scores[good][stable]

    def _grid(self, size: int) -> Sequence[torch.Tensor]:
        """The centres of a grid's cells in pixels of the model's square, (1, P, 1, 2) each, row by row."""
        side = (torch.arange(self.points_per_side, device=self.device) + 0.5) * (size / self.points_per_side)
        y, x = torch.meshgrid(side, side, indexing="ij")
        return torch.stack([x, y], dim=-1).reshape(1, -1, 1, 2).split(POINTS_AT_ONCE, dim=1)


def _boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Boxes (n, 4) of masks (n, H, W), with exclusive maxima; zeros where a mask is empty."""
    boxes = torch.zeros((len(masks), 4), dtype=torch.float32, device=masks.device)
    for axis, columns in ((0, masks.any(1)), (1, masks.any(2))):
        length = columns.shape[1]
        boxes[:, axis] = columns.float().argmax(1)
        boxes[:, axis + 2] = torch.where(columns.any(1), length - columns.flip(1).float().argmax(1), 0)
    return boxes
