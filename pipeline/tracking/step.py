"""One step of the model over a batch: frames to features, prompts and recalled memories to masks and new memories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.model import Sam2
from pipeline.tracking.bank import BankLimits, Recall
from pipeline.tracking.prompts import ModelPrompt


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """One encoded frame."""

    levels: list[torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What a batch of B tracks gives."""

    logits: torch.Tensor
    """(B, h, w) fp32"""
    object_logit: torch.Tensor
    """(B,) fp32"""
    predicted_iou: torch.Tensor
    """(B,) fp32"""
    memory: torch.Tensor
    """(B, HW, C) bf16"""
    pointer: torch.Tensor
    """(B, D) fp32"""

    def rows(self, start: int, stop: int) -> "Results":
        return Results(**{name: getattr(self, name)[start:stop] for name in self.__dataclass_fields__})

    @staticmethod
    def cat(parts: Sequence["Results"]) -> "Results":
        if len(parts) == 1:
            return parts[0]
        return Results(**{n: torch.cat([getattr(p, n) for p in parts]) for n in Results.__dataclass_fields__})


class Stepper:
    def __init__(self, sam2: Sam2, *, dtype: torch.dtype) -> None:
        self.sam2 = sam2
        self.model: Any = sam2.model
        self.dtype = dtype
        config = self.model.config
        self.max_pointers = int(config.max_object_pointers_in_encoder)
        self.limits = BankLimits(
            memories=config.num_maskmem - 1,
            pointers=self.max_pointers - 1,
            conditioning=config.max_cond_frame_num,
        )

    def encode(self, pixels: Sequence[torch.Tensor]) -> list[Features]:
        found = self.model.get_image_features(torch.stack(list(pixels)).to(self.sam2.device))
        self.position = found.fpn_position_encoding[-1][:, :1]
        return [Features(levels=[x[:, i : i + 1] for x in found.fpn_hidden_states]) for i in range(len(pixels))]

    def prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results:
        return Results.cat([self._prompt(features, prompt) for features, prompt in items])

    def track(self, items: Sequence[tuple[Features, Recall]]) -> Results:
        return Results.cat([self._track(features, recall) for features, recall in items])

    def _images(self, features: Features) -> list[torch.Tensor]:
        sizes = self.model.backbone_feature_sizes
        return [x.permute(1, 2, 0).view(1, -1, *s) for x, s in zip(features.levels, sizes, strict=True)]

    def _prompt(self, features: Features, prompt: ModelPrompt) -> Results:
        *fine, coarse = self._images(features)
        if prompt.mask is not None:
            out = self.model._use_mask_as_output(coarse, fine, prompt.mask[None].to(self.sam2.device))
            nan = torch.full((1,), torch.nan, device=self.sam2.device)
            return self._finish(features, out, nan, from_prompt=True)
        top = features.levels[-1] + self.model.no_memory_embedding
        assert prompt.points is not None
        assert prompt.labels is not None
        points = {
            "point_coords": prompt.points[None, None].to(self.sam2.device),
            "point_labels": prompt.labels[None, None].to(self.sam2.device),
        }
        multimask = self.model._use_multimask(True, points)
        out = self.model._single_frame_forward(
            input_points=points["point_coords"],
            input_labels=points["point_labels"],
            image_embeddings=[*fine, top.permute(1, 2, 0).view(coarse.shape)],
            multimask_output=multimask,
        )
        return self._finish(features, out, out.iou_scores.flatten().max()[None], from_prompt=True)

    def _track(self, features: Features, recall: Recall) -> Results:
        model = self.model
        *fine, coarse = self._images(features)
        memory = [m[:, None] for m in recall.memories]
        spatial = model.memory_encoder.position_encoding((1, 1, *coarse.shape[-2:]), coarse.device, coarse.dtype)
        spatial = spatial.flatten(2).permute(2, 0, 1)
        position = [spatial + model.memory_temporal_positional_encoding[age - 1] for age in recall.ages]
        pointers, pointer_position = model._process_object_pointers(
            list(recall.distances),
            [p[None] for p in recall.pointers],
            recall.max_pointers,
            1,
            model.hidden_dim,
            coarse.device,
        )
        attended = model.memory_attention(
            current_vision_features=features.levels[-1],
            current_vision_position_embeddings=self.position,
            memory=torch.cat([*memory, pointers]).float(),
            memory_posision_embeddings=torch.cat([*position, pointer_position]),
            num_object_pointer_tokens=len(pointers),
        )
        out = model._single_frame_forward(
            image_embeddings=[*fine, attended.squeeze(1).transpose(1, 2).view(coarse.shape)],
            multimask_output=model._use_multimask(False, None),
        )
        return self._finish(features, out, out.iou_scores.flatten().max()[None], from_prompt=False)

    def _finish(self, features: Features, out: Any, iou: torch.Tensor, *, from_prompt: bool) -> Results:
        memory, _ = self.model._encode_new_memory(
            features.levels[-1], out.high_res_masks, out.object_score_logits, from_prompt
        )
        score = out.object_score_logits.flatten().float()
        return Results(
            logits=out.pred_masks[:, 0].float(),
            object_logit=torch.where(iou.isnan(), iou, score),
            predicted_iou=iou.float(),
            memory=memory.transpose(0, 1),
            pointer=out.object_pointer[:, 0].float(),
        )
