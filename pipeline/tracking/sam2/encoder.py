"""Frames to features: Hiera and its neck, without what nothing reads, and with constants built once.

transformers' encoder also computes attention weights that are thrown away, position encodings of every level (one level
is used), and a bicubic position embedding, for every frame.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from pipeline.tracking.sam2.hiera import Block
from pipeline.tracking.sam2.weights import Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Encoded frames; names end in their dimensions (F frames, N tokens, C channels, p 2 x 2 parts). The finer levels
    are projected for the mask decoder and stand in its nested pixel order: a token of the coarse grid, its parts, and
    their parts."""

    top_fnc: torch.Tensor
    s1_fnpc: torch.Tensor
    """(F, N, 4, C/4)"""
    s0_fnppc: torch.Tensor
    """(F, N, 4, 4, C/8)"""

    @staticmethod
    def of(top_fhwc: torch.Tensor, s1_fhwc: torch.Tensor, s0_fhwc: torch.Tensor) -> "Features":
        """Features of the three levels, each twice as fine as the one before."""
        frames, height, width, _ = top_fhwc.shape
        s1 = s1_fhwc.view(frames, height, 2, width, 2, -1).transpose(2, 3)
        s0 = s0_fhwc.view(frames, height, 2, 2, width, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return Features(
            top_fnc=top_fhwc.flatten(1, 2),
            s1_fnpc=s1.reshape(frames, height * width, 4, -1),
            s0_fnppc=s0.reshape(frames, height * width, 4, 4, -1),
        )

    def frame(self, n: int) -> "Features":
        return Features(
            top_fnc=self.top_fnc[n : n + 1], s1_fnpc=self.s1_fnpc[n : n + 1], s0_fnppc=self.s0_fnppc[n : n + 1]
        )


class Pixels:
    """Rescales and normalises frames by a table of the values (3, 256) for each byte of each channel."""

    def __init__(self, values: torch.Tensor, weights: Weights) -> None:
        self.values = weights.cast(values).flatten()
        self.first_value_c = torch.arange(0, 3 * 256, 256, dtype=torch.int32, device=values.device)

    def __call__(self, bytes_fssc: torch.Tensor) -> torch.Tensor:
        """(F, 3, S, S) with the channels innermost in memory, of uint8 frames on the model's device."""
        index = (bytes_fssc + self.first_value_c).flatten()
        return self.values.index_select(0, index).view(bytes_fssc.shape).permute(0, 3, 1, 2)


class FrameEncoder(Protocol):
    """What makes features of frames, in every family."""

    def __init__(self, model: Any, weights: Weights, pixel_values: torch.Tensor) -> None:
        """`pixel_values` (3, 256) are the inputs for each byte of each channel."""

    def __call__(self, bytes_fssc: torch.Tensor) -> Features:
        """Features of uint8 frames on the model's device."""
        ...


class Encoder:
    def __init__(self, model: Any, weights: Weights, pixel_values: torch.Tensor) -> None:
        """`pixel_values` (3, 256) are the inputs for each byte of each channel."""
        backbone = model.vision_encoder.backbone
        self.pixels = Pixels(pixel_values, weights)
        patch = backbone.patch_embed.projection
        # 7 x 7 patches with stride 4: 2.5 times as fast with the channels innermost
        self.patch = weights.cast(patch.weight).contiguous(memory_format=torch.channels_last)
        self.patch_bias = weights.cast(patch.bias)
        self.patch_stride, self.patch_padding = patch.stride, patch.padding
        size = model.config.image_size // patch.stride[0]
        self.position = backbone._get_pos_embed((size, size)).contiguous()
        self.blocks = [Block(block, weights) for block in backbone.blocks]
        self.stage_ends = list(backbone.stage_ends)
        self.neck = Neck(model, weights)

    def __call__(self, bytes_fssc: torch.Tensor) -> Features:
        """Features of uint8 frames on the model's device."""
        x = F.conv2d(self.pixels(bytes_fssc), self.patch, self.patch_bias, self.patch_stride, self.patch_padding)
        x_fhwc = x.permute(0, 2, 3, 1) + self.position
        stages = []
        for n, block in enumerate(self.blocks):
            x_fhwc = block(x_fhwc)
            if n in self.stage_ends:
                stages.append(x_fhwc)
        return self.neck(stages)


class Neck:
    """The feature pyramid. Nothing comes down to its two finest levels, so the neck's and the mask decoder's projection
    of them are one linear map."""

    def __init__(self, model: Any, weights: Weights) -> None:
        coarsest_first = list(model.vision_encoder.neck.convs)
        self.coarsest = weights.dense(coarsest_first[0])
        self.top = weights.dense(coarsest_first[1])
        self.s1 = weights.composed(coarsest_first[2], model.mask_decoder.conv_s1)
        self.s0 = weights.composed(coarsest_first[3], model.mask_decoder.conv_s0)

    def __call__(self, stages: list[torch.Tensor]) -> Features:
        """Features of the backbone's four stages, (F, H, W, C) each."""
        x0, x1, x2, x3 = stages
        frames, height, width, _ = x2.shape
        below = self.coarsest(x3).view(frames, height // 2, 1, width // 2, 1, -1)
        top = self.top(x2).view(frames, height // 2, 2, width // 2, 2, -1) + below
        return Features.of(top.view(frames, height, width, -1), self.s1(x1), self.s0(x0))
