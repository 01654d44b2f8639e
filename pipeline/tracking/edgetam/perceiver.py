"""The perceiver that turns a memory of all image tokens into few: latents that attend to the whole image, and latents
in a grid that attend to their own window each."""

from typing import Any

import torch
import torch.nn.functional as F

from pipeline.tracking.sam2.attention import attend
from pipeline.tracking.sam2.weights import Weights


class Perceiver:
    def __init__(self, model: Any, weights: Weights) -> None:
        perceiver = model.spatial_perceiver
        self.grid: tuple[int, int] = tuple(model.backbone_feature_sizes[-1])
        self.whole_lm = perceiver.latents_1d.detach()
        self.windows_lm = perceiver.latents_2d.detach()
        self.layers = [_Layer(layer, weights) for layer in perceiver.layers]
        self.norm = weights.norm(perceiver.layer_norm)
        position = model.memory_encoder.position_encoding((1, 1, *self.grid), self.whole_lm.device, torch.float32)
        self.position_nm = weights.cast(position.flatten(2).transpose(1, 2)[0])
        side = int(len(self.windows_lm) ** 0.5)
        self.windows = (side, self.grid[0] // side, side, self.grid[1] // side)

    def __call__(self, memory_bnm: torch.Tensor) -> torch.Tensor:
        """(B, L, M) fp32 latents of image tokens (B, N, M): those of the whole image, then those of the windows."""
        batch = len(memory_bnm)
        whole = self.whole_lm.expand(batch, -1, -1)
        windows = self.windows_lm.expand(batch, -1, -1)
        for layer in self.layers:
            key, value = layer.project(memory_bnm)
            whole = layer.whole(whole, key + self.position_nm, value + self.position_nm)
            windows = layer.in_windows(windows, self._parted(key), self._parted(value))
        return self.norm(torch.cat([whole, windows], 1)).float()

    def _parted(self, x_bnm: torch.Tensor) -> torch.Tensor:
        """(B, windows, tokens, M)"""
        return x_bnm.unflatten(1, self.windows).transpose(2, 3).flatten(3, 4).flatten(1, 2)


class _Layer:
    """Keys and values of the image are the same for both kinds of latents, but for the positions that the first adds.

    A latent of a window attends to itself alone in self-attention: the result is its own value.
    """

    def __init__(self, layer: Any, weights: Weights) -> None:
        cross, own = layer.cross_attention, layer.self_attention
        self.dtype = weights.dtype
        self.heads: int = cross.num_attention_heads
        self.norm_image, self.norm_latents, self.norm_own = (
            weights.norm(n) for n in (layer.layer_norm_input, layer.layer_norm_latents, layer.layer_norm_self)
        )
        self.key_value = weights.dense(cross.k_proj, cross.v_proj)
        self.query = weights.dense(cross.q_proj, scale_first=cross.scaling)
        self.out = weights.dense(cross.o_proj)
        self.own_query = weights.dense(own.q_proj, scale_first=own.scaling)
        self.own_key, self.own_value, self.own_out = (weights.dense(p) for p in (own.k_proj, own.v_proj, own.o_proj))
        self.mlp, self.own_mlp = _Mlp(layer.mlp, weights), _Mlp(layer.self_mlp, weights)

    def project(self, image_bnm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self.key_value(self.norm_image(image_bnm).to(self.dtype)).chunk(2, -1)
        return key, value

    def whole(self, latents_blm: torch.Tensor, key_bnm: torch.Tensor, value_bnm: torch.Tensor) -> torch.Tensor:
        """The latents after attention to all image tokens and to each other."""
        query = self.query(self.norm_latents(latents_blm).to(self.dtype))
        x = latents_blm + self.out(self._attend(query, key_bnm, value_bnm))
        x = x + self.mlp(x)
        normed = self.norm_own(x).to(self.dtype)
        own = self._attend(self.own_query(normed), self.own_key(normed), self.own_value(normed))
        x = x + self.own_out(own)
        return x + self.own_mlp(x)

    def in_windows(self, latents_blm: torch.Tensor, key_blwm: torch.Tensor, value_blwm: torch.Tensor) -> torch.Tensor:
        """The latents after attention of each to the tokens of its own window."""
        query = self.query(self.norm_latents(latents_blm).to(self.dtype))
        q, k, v = (self._heads(x) for x in (query[:, :, None], key_blwm, value_blwm))
        x = latents_blm + self.out(F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(2, 3).flatten(2))
        x = x + self.mlp(x)
        x = x + self.own_out(self.own_value(self.norm_own(x).to(self.dtype)))
        return x + self.own_mlp(x)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(..., tokens, M) to (..., heads, tokens, M / heads)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = attend(*(self._heads(x) for x in (query, key, value)))
        return out.transpose(1, 2).flatten(2)


class _Mlp:
    def __init__(self, mlp: Any, weights: Weights) -> None:
        self.norm = weights.norm(mlp.layer_norm)
        self.up, self.down = weights.dense(mlp.up_proj, then=mlp.act_fn), weights.dense(mlp.down_proj)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(self.norm(x)))
