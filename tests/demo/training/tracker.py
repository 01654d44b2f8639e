"""A differentiable tracker: the steps of Sam2VideoModel's inference, batched over rows (clip, object).

The model's own forward runs under inference_mode and takes one object at a time, so training drives its modules.
The rules are those of inference: prompted frames run without memory and are all conditioning frames; a tracked frame
attends to every conditioning frame, the six tracked frames before it and sixteen object pointers; one click and
tracking give three masks of which the highest predicted IoU is chosen; a prompted frame's memory is binarised; a hidden
object's memory is an empty mask with the occlusion embedding, and its pointer is the no-object pointer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import NO_OBJ_SCORE, get_1d_sine_pe

from tests.demo.training.batches import Batch, Prompt


@dataclass(frozen=True)
class Decoded:
    """Of one frame and a block of rows, before anything is chosen; S is a quarter of the image size."""

    rows: slice
    masks: Tensor
    """(rows, K, S, S) logits"""
    ious: Tensor
    """(rows, K) predicted"""
    score: Tensor
    """(rows,) object logit"""


@dataclass(frozen=True)
class _Memory:
    """Of one frame: features and their positions (HW, R, 64), pointer (R, C)."""

    features: Tensor
    position: Tensor
    pointer: Tensor


class Tracker:
    """Tracks the rows of one batch; `trust` says whether presence for the memory is the model's own or the truth."""

    def __init__(self, model: Sam2VideoModel, batch: Batch, *, trust: bool) -> None:
        self.model, self.batch, self.trust = model, batch, trust
        clips, length = batch.pixels.shape[:2]
        encoded = model.get_image_features(batch.pixels.flatten(0, 1), return_dict=True)
        self.levels = [
            x.permute(1, 2, 0).reshape(clips, length, x.shape[2], *size)
            for x, size in zip(encoded.fpn_hidden_states, model.backbone_feature_sizes, strict=True)
        ]
        self.position = encoded.fpn_position_encoding[-1][:, :1].expand(-1, len(batch.clip), -1)
        self.image_position = model.get_image_wide_positional_embeddings()

    def run(self) -> dict[int, list[Decoded]]:
        """frame -> what the decoder said there, over all rows; prompted frames run first, as in inference."""
        out: dict[int, list[Decoded]] = {}
        conditioning: dict[int, _Memory] = {}
        tracked: dict[int, _Memory] = {}
        length = self.batch.pixels.shape[1]
        for t, prompts in self.batch.prompts.items():
            out[t], mask, pointer = self._prompted(t, prompts)
            if length > 1:
                conditioning[t] = self._remember(t, mask, pointer, torch.ones(len(mask), 1))
        for t in range(length):
            if t not in self.batch.prompts:
                out[t], mask, pointer, present = self._tracked(t, conditioning, tracked)
                if t + 1 < length:
                    tracked[t] = self._remember(t, mask, pointer, present)
        return out

    def _features(self, t: int, level: int) -> Tensor:
        """One level of frame t's features, 0 the finest and -1 the coarsest: (R, C, H, W)."""
        return self.levels[level][:, t].index_select(0, self.batch.clip)

    def _prompted(self, t: int, prompts: list[Prompt]) -> tuple[list[Decoded], Tensor, Tensor]:
        """What the decoder says, the binary masks for the memory (R, 1, H, W) and the pointers (R, C)."""
        *fine, top = (self._features(t, level) for level in range(3))
        decoded, masks, pointers = [], [], []
        for prompt in prompts:
            rows = prompt.rows
            part = [x[rows] for x in fine]
            if prompt.masks is not None:
                one, _, pointer = self._decode(rows, part, top[rows], masks=prompt.masks)
                high = prompt.masks * 20 - 10
            else:
                image = top[rows] + self.model.no_memory_embedding.reshape(1, -1, 1, 1)
                one, low, pointer = self._decode(rows, part, image, points=prompt.points, labels=prompt.labels)
                high = F.interpolate(low, scale_factor=4, mode="bilinear")
            decoded.append(one)
            masks.append(high)
            pointers.append(pointer)
        return decoded, (torch.cat(masks) > 0).float(), torch.cat(pointers)

    def _tracked(
        self, t: int, conditioning: dict[int, _Memory], tracked: dict[int, _Memory]
    ) -> tuple[list[Decoded], Tensor, Tensor, Tensor]:
        """As _prompted, with soft masks, and presence (R, 1)."""
        *fine, top = (self._features(t, level) for level in range(3))
        image = self._attend(t, top, conditioning, tracked)
        decoded, low, pointer = self._decode(slice(0, len(top)), fine, image)
        shown = decoded.score > 0 if self.trust else self.batch.truth[:, t].any(-1).any(-1)
        present = shown.float()[:, None]
        low = torch.where(shown[:, None, None, None], low, NO_OBJ_SCORE)
        mask = torch.sigmoid(F.interpolate(low, scale_factor=4, mode="bilinear"))
        return [decoded], mask, present * pointer + (1 - present) * self.model.no_object_pointer, present

    def _decode(
        self,
        rows: slice,
        fine: list[Tensor],
        image: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Decoded, Tensor, Tensor]:
        """What the decoder says, the chosen low-resolution mask (rows, 1, S, S) and its pointer (rows, C)."""
        m, count = self.model, len(image)
        if points is None:
            points, labels = torch.zeros(count, 1, 1, 2), -torch.ones(count, 1, 1, dtype=torch.int32)
        sparse, dense = m.prompt_encoder(
            input_points=points,
            input_labels=labels,
            input_boxes=None,
            input_masks=None if masks is None else m.mask_downsample(masks),
        )
        # Inference falls back to the multiple masks where the single one is unstable: now and then train those too.
        multimask = points.shape[2] == 1 or bool(torch.rand(()) < 0.2)
        logits, ious, tokens, score = m.mask_decoder(
            image_embeddings=image,
            image_positional_embeddings=self.image_position.expand(count, -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            high_resolution_features=fine,
        )
        decoded = Decoded(rows, logits[:, 0].float(), ious[:, 0].float(), score.reshape(count).float())
        best, each = decoded.ious.argmax(1), torch.arange(count)
        return decoded, decoded.masks[each, best][:, None], m.object_pointer_proj(tokens[each, 0, best])

    def _remember(self, t: int, mask: Tensor, pointer: Tensor, present: Tensor) -> _Memory:
        m = self.model
        scaled = mask * m.config.sigmoid_scale_for_mem_enc + m.config.sigmoid_bias_for_mem_enc
        features, position = m.memory_encoder(self._features(t, -1), scaled)
        assert m.occlusion_spatial_embedding_parameter is not None
        features = features + (1 - present)[..., None, None] * m.occlusion_spatial_embedding_parameter[..., None, None]
        flat = position.flatten(2).permute(2, 0, 1).expand(-1, len(mask), -1)
        return _Memory(features.flatten(2).permute(2, 0, 1), flat, pointer)

    def _attend(self, t: int, top: Tensor, conditioning: dict[int, _Memory], tracked: dict[int, _Memory]) -> Tensor:
        """Frame t's coarse features conditioned on memory, (R, C, h, w)."""
        m, rows = self.model, len(top)
        recent = [(k, tracked[t - k]) for k in range(m.num_maskmem - 1, 0, -1) if t - k in tracked]
        spatial = [(0, memory) for memory in conditioning.values()] + recent
        offsets = [t - c + (self.batch.gap if c == 0 else 0) for c in conditioning if c <= t]
        pointers = [memory.pointer for c, memory in conditioning.items() if c <= t]
        limit = m.config.max_object_pointers_in_encoder
        for k in range(1, limit):
            if t - k in tracked:
                offsets.append(k)
                pointers.append(tracked[t - k].pointer)
        sine: Tensor = get_1d_sine_pe(torch.tensor(offsets, dtype=torch.float32) / (limit - 1), dim=m.hidden_dim)
        times = m.temporal_positional_encoding_projection_layer(sine)[:, None].expand(-1, rows, -1)
        splits = m.hidden_dim // m.mem_dim
        tokens = torch.stack(pointers).reshape(len(pointers), rows, splits, m.mem_dim).permute(0, 2, 1, 3).flatten(0, 1)
        places = [x.position + m.memory_temporal_positional_encoding[k - 1] for k, x in spatial]
        out: Tensor = m.memory_attention(
            current_vision_features=top.flatten(2).permute(2, 0, 1),
            current_vision_position_embeddings=self.position,
            memory=torch.cat([*(x.features for _, x in spatial), tokens]),
            memory_posision_embeddings=torch.cat([*places, times.repeat_interleave(splits, 0)]),
            num_object_pointer_tokens=len(tokens),
        )
        return out.reshape(rows, -1, m.hidden_dim).transpose(1, 2).reshape(top.shape)
