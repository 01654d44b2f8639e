"""Frames to features: Hiera and its neck, without what nothing reads, and with constants built once.

transformers' encoder also computes attention weights that are thrown away, position encodings of every level (one level
is used), and a bicubic position embedding, for every frame.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.errors import ModelError
from pipeline.tracking.weights import Weights, is_pointwise


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

    def frame(self, n: int) -> "Features":
        return Features(
            top_fnc=self.top_fnc[n : n + 1], s1_fnpc=self.s1_fnpc[n : n + 1], s0_fnppc=self.s0_fnppc[n : n + 1]
        )


class Encoder:
    def __init__(self, model: Any, weights: Weights, device: torch.device) -> None:
        vision = model.vision_encoder
        backbone = vision.backbone
        self.device = device
        self.dtype = weights.dtype
        config = vision.config
        levels = config.backbone_feature_sizes
        self.grid = tuple(levels[-1])
        patch = backbone.patch_embed.projection
        # 7 x 7 patches with stride 4: 2.5 times as fast with the channels innermost
        self.patch = weights.cast(patch.weight).contiguous(memory_format=torch.channels_last)
        self.patch_bias = weights.cast(patch.bias)
        self.patch_stride, self.patch_padding = patch.stride, patch.padding
        size = model.config.image_size // patch.stride[0]
        self.position = backbone._get_pos_embed((size, size)).contiguous()
        self.blocks = [_Block(block, weights) for block in backbone.blocks]
        self.stage_ends = list(backbone.stage_ends)
        self.neck = _Neck(model, weights)

    def __call__(self, pixels_f3ss: torch.Tensor) -> Features:
        if self.device.type == "cuda" and pixels_f3ss.device.type == "cpu":
            pixels_f3ss = pixels_f3ss.pin_memory()  # so that the copy does not wait
        pixels = pixels_f3ss.to(self.device, non_blocking=True).to(self.dtype)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x = F.conv2d(pixels, self.patch, self.patch_bias, self.patch_stride, self.patch_padding)
        x_fhwc = x.permute(0, 2, 3, 1) + self.position
        stages = []
        for n, block in enumerate(self.blocks):
            x_fhwc = block(x_fhwc)
            if n in self.stage_ends:
                stages.append(x_fhwc)
        return self.neck(stages)


class _Block:
    """Windowed or global attention, and a feed-forward network; the first block of a stage halves the resolution."""

    def __init__(self, block: Any, weights: Weights) -> None:
        self.norm1 = weights.norm(block.layer_norm1)
        self.norm2 = weights.norm(block.layer_norm2)
        self.qkv = weights.dense(block.attn.qkv)
        self.out = weights.dense(block.attn.proj)
        self.mlp_in = weights.dense(block.mlp.proj_in, then=block.mlp.activation)
        self.mlp_out = weights.dense(block.mlp.proj_out)
        self.shortcut = weights.dense(block.proj) if block.dim != block.dim_out else None
        self.window = block.window_size
        self.stride = block.query_stride
        self.heads = block.attn.num_attention_heads
        self.scale = block.attn.scale

    def __call__(self, x_fhwc: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(x_fhwc)
        residual = x_fhwc if self.shortcut is None else _pool(self.shortcut(normed), self.stride)
        x_fhwc = residual + self._attend(normed, residual.shape[1:3])
        return x_fhwc + self.mlp_out(self.mlp_in(self.norm2(x_fhwc)))

    def _attend(self, x_fhwc: torch.Tensor, out_size: torch.Size) -> torch.Tensor:
        frames, height, width, _ = x_fhwc.shape
        side = self.window
        if side:
            if height % side or width % side:
                x_fhwc = F.pad(x_fhwc, (0, 0, 0, -width % side, 0, -height % side))
            rows, columns = x_fhwc.shape[1] // side, x_fhwc.shape[2] // side
            windows = x_fhwc.view(frames, rows, side, columns, side, -1).transpose(2, 3)
            x = windows.reshape(-1, side * side, windows.shape[-1])
            h, w = side, side
        else:
            x = x_fhwc.flatten(1, 2)
            h, w = height, width
        batch = len(x)
        q, k, v = self.qkv(x).view(batch, h * w, 3, self.heads, -1).unbind(2)
        if self.stride:
            q_bhwc = _pool(q.reshape(batch, h, w, -1), self.stride)
            h, w = q_bhwc.shape[1:3]
            q = q_bhwc.reshape(batch, h * w, self.heads, -1)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=self.scale
        ).transpose(1, 2)
        out = self.out(out.reshape(batch, h * w, -1))
        if not side:
            return out.view(frames, *out_size, -1)
        out = out.view(frames, rows, columns, h, w, -1).transpose(2, 3).reshape(frames, rows * h, columns * w, -1)
        return out[:, : out_size[0], : out_size[1]]


def _pool(x_bhwc: torch.Tensor, stride: tuple[int, int] | None) -> torch.Tensor:
    """Max pooling. With the channels innermost max_pool2d takes twice as long on a CPU; it finds indices, too."""
    if stride is None:
        return x_bhwc
    down, across = stride
    height, width = (size // step * step for size, step in zip(x_bhwc.shape[1:3], stride, strict=True))
    x_bhwc = reduce(torch.maximum, [x_bhwc[:, n:height:down] for n in range(down)])
    return reduce(torch.maximum, [x_bhwc[:, :, n:width:across] for n in range(across)])


class _Neck:
    """The feature pyramid. Nothing comes down to its two finest levels, so the neck's and the mask decoder's projection
    of them are one linear map."""

    def __init__(self, model: Any, weights: Weights) -> None:
        neck = model.vision_encoder.neck
        coarsest_first = list(neck.convs)
        usual = (
            len(coarsest_first) == 4
            and model.vision_encoder.config.num_feature_levels == 3
            and set(neck.fpn_top_down_levels) == {2, 3}
            and all(is_pointwise(conv) for conv in coarsest_first)
        )
        if not usual:
            raise ModelError(
                "The tracking engine needs SAM2's neck: four 1 x 1 levels, the coarsest added to the next one."
            )
        self.coarsest = weights.dense(coarsest_first[0])
        self.top = weights.dense(coarsest_first[1])
        self.s1 = weights.composed(coarsest_first[2], model.mask_decoder.conv_s1)
        self.s0 = weights.composed(coarsest_first[3], model.mask_decoder.conv_s0)

    def __call__(self, stages: list[torch.Tensor]) -> Features:
        x0, x1, x2, x3 = stages
        frames, height, width, _ = x2.shape
        below = self.coarsest(x3).view(frames, height // 2, 1, width // 2, 1, -1)
        top = self.top(x2).view(frames, height // 2, 2, width // 2, 2, -1) + below
        s1 = self.s1(x1).view(frames, height, 2, width, 2, -1).transpose(2, 3)
        s0 = self.s0(x0).view(frames, height, 2, 2, width, 2, 2, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return Features(
            top_fnc=top.view(frames, height * width, -1),
            s1_fnpc=s1.reshape(frames, height * width, 4, -1),
            s0_fnppc=s0.reshape(frames, height * width, 4, 4, -1),
        )
