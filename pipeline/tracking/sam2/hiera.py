"""Hiera's blocks: attention in windows or over the whole frame, and a feed-forward network."""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.tracking.sam2.weights import Weights, split


class Block:
    """The first block of a stage halves the resolution."""

    def __init__(self, block: Any, weights: Weights) -> None:
        self.dtype = weights.dtype
        self.norm1 = weights.norm(block.layer_norm1)
        self.norm2 = weights.norm(block.layer_norm2)
        self.attention = _attention(block.attn, weights)
        self.mlp_in = weights.dense(block.mlp.proj_in, then=block.mlp.activation)
        self.mlp_out = weights.dense(block.mlp.proj_out)
        self.shortcut = weights.dense(block.proj) if block.dim != block.dim_out else None
        self.window = block.window_size
        self.stride = block.query_stride

    def __call__(self, x_fhwc: torch.Tensor) -> torch.Tensor:
        normed = self.norm1(x_fhwc).to(self.dtype)
        residual = x_fhwc if self.shortcut is None else pool(self.shortcut(normed), self.stride)
        x_fhwc = residual + self._attend(normed, residual.shape[1:3])
        return x_fhwc + self.mlp_out(self.mlp_in(self.norm2(x_fhwc)))

    def _attend(self, x_fhwc: torch.Tensor, out_size: torch.Size) -> torch.Tensor:
        side = self.window
        if not side:
            return self.attention(x_fhwc)
        frames, height, width, channels = x_fhwc.shape
        if height % side or width % side:
            x_fhwc = F.pad(x_fhwc, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x_fhwc.shape[1] // side, x_fhwc.shape[2] // side
        windows = x_fhwc.view(frames, rows, side, columns, side, channels).transpose(2, 3)
        out = self.attention(windows.reshape(-1, side, side, channels))
        _, h, w, channels = out.shape
        out = out.view(frames, rows, columns, h, w, channels).transpose(2, 3)
        return out.reshape(frames, rows * h, columns * w, channels)[:, : out_size[0], : out_size[1]]


def _attention(attention: Any, weights: Weights) -> "_OwnKeys | _SharedKeys":
    """The form with less work.

    Shared keys save two products of every token, but make each head as wide as the input, which queries and averages
    pay for: fewer of them where queries are pooled.
    """
    wide = attention.num_attention_heads * attention.dim
    most = attention.dim_out if attention.query_stride is None else 2 * attention.dim_out
    return (_SharedKeys if wide <= most else _OwnKeys)(attention, weights)


class _OwnKeys:
    """Every head makes keys and values of the input."""

    def __init__(self, attention: Any, weights: Weights) -> None:
        self.qkv = weights.dense(attention.qkv)
        self.out = weights.dense(attention.proj)
        self.heads: int = attention.num_attention_heads
        self.scale: float = attention.scale
        self.stride = attention.query_stride

    def __call__(self, x_bhwc: torch.Tensor) -> torch.Tensor:
        batch, h, w, _ = x_bhwc.shape
        q, k, v = self.qkv(x_bhwc.view(batch, h * w, -1)).view(batch, h * w, 3, self.heads, -1).unbind(2)
        if self.stride:
            q_bhwc = pool(q.reshape(batch, h, w, -1), self.stride)
            h, w = q_bhwc.shape[1:3]
            q = q_bhwc.view(batch, h * w, self.heads, -1)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=self.scale
        ).transpose(1, 2)
        return self.out(out.reshape(batch, h, w, -1))


class _SharedKeys:
    """The input itself is the keys and values of all heads.

    What makes keys of it goes to the queries, as `q (Wk x + bk) = (q Wk) x + constant`, in one map with what makes
    queries unless they are pooled in between; what makes values of it comes after the average, in one map with the
    output projection.
    """

    def __init__(self, attention: Any, weights: Weights) -> None:
        self.heads: int = attention.num_attention_heads
        self.stride = attention.query_stride
        query, key, value = split(attention.qkv, 3)
        key_hdc = (key.weight.detach() * attention.scale).unflatten(0, (self.heads, -1))
        if self.stride:
            self.query = weights.dense(query)
            self.key_hdc = weights.cast(key_hdc)
        else:
            self.query = weights.keyed(query, key_hdc)
        self.out = weights.composed(value, attention.proj, heads=self.heads)

    def __call__(self, x_bhwc: torch.Tensor) -> torch.Tensor:
        batch, h, w, channels = x_bhwc.shape
        q = self.query(x_bhwc)
        if self.stride:
            q = pool(q, self.stride)
            h, w = q.shape[1:3]
            q = torch.bmm(q.view(batch * h * w, self.heads, -1).transpose(0, 1), self.key_hdc).transpose(0, 1)
        # the heads' queries side by side, since they share the keys
        q = q.reshape(batch, 1, h * w * self.heads, channels)
        keys = x_bhwc.view(batch, 1, -1, channels)
        out = F.scaled_dot_product_attention(q, keys, keys, scale=1.0)
        return self.out(out.view(batch, h, w, -1))


def pool(x_bhwc: torch.Tensor, stride: tuple[int, int] | None) -> torch.Tensor:
    """Max pooling. With the channels innermost max_pool2d takes twice as long on a CPU; it finds indices, too."""
    if stride is None:
        return x_bhwc
    down, across = stride
    height, width = (size // step * step for size, step in zip(x_bhwc.shape[1:3], stride, strict=True))
    x_bhwc = reduce(torch.maximum, [x_bhwc[:, n:height:down] for n in range(down)])
    return reduce(torch.maximum, [x_bhwc[:, :, n:width:across] for n in range(across)])
