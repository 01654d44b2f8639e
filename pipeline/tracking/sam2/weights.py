"""Weights of transformers' modules, in the forms the step computes with."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

_ONEDNN = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
)
"""The operations are what torch.compile lowers to; where a PyTorch lacks them, the usual one does."""
_POINTWISE = {"NoneType": "none", "GELUActivation": "gelu", "ReLU": "relu"}
"""oneDNN's names for transformers' activations."""
_LARGE_WEIGHT = 1 << 15
"""Elements from which oneDNN's fp32 product of some images' rows beats MKL's, by 1.03 to 1.11 (Zen 4, one thread).

With a GELU it does so from 32 x 128 on, by 1.1 to 1.5.
"""
_ROWS = 1024
"""For how many rows its weights are laid out; any number can be multiplied."""


class Dense(NamedTuple):
    """A linear map over the last dimension, and what is done to its result."""

    weight: torch.Tensor
    """(out, in); laid out in oneDNN's own way where its product is used."""
    bias: torch.Tensor
    then: Callable[[torch.Tensor], torch.Tensor] | None
    onednn: str | None
    """oneDNN's name for `then`, where its product is the faster one: it then does both in one pass.

    The choice must not follow the batch: each library gives a row the same bits in any batch, but not the other's.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.onednn:
            done: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.onednn, [], "none")
            return done
        x = F.linear(x, self.weight, self.bias)
        return self.then(x) if self.then else x


class Linear(NamedTuple):
    """A part of a linear layer's outputs."""

    weight: torch.Tensor
    bias: torch.Tensor


class Norm(NamedTuple):
    """A layer norm over the last dimension."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float
    bf16: tuple[torch.Tensor, torch.Tensor] | None = None
    """Weight and bias for bfloat16 rows on CUDA.

    Autocast on CUDA, unlike on a CPU, makes such rows fp32 and the next product makes them bfloat16 again. Both kernels
    compute in fp32, so that without autocast two casts less give the CPU's result.
    """

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.bf16 is None or x.dtype != torch.bfloat16:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        with torch.autocast("cuda", enabled=False):
            return F.layer_norm(x, self.weight.shape, *self.bf16, self.eps)


class Weights:
    """Reads modules; what matrix products and convolutions use is stored in the compute dtype, once."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def dense(self, *layers: Any, scale_first: float = 1.0, then: Any = None) -> Dense:
        """One linear layer or 1 x 1 convolution, or several over the same input side by side; then an activation."""
        scales = [scale_first] + [1.0] * (len(layers) - 1)
        weight = torch.cat([self._matrix(layer) * scale for layer, scale in zip(layers, scales, strict=True)])
        bias = torch.cat([self._bias(layer) * scale for layer, scale in zip(layers, scales, strict=True)])
        return self.store(weight, bias, then=then)

    def composed(self, first: Any, second: Any, *, heads: int = 1) -> Dense:
        """`second(first(x))` of two linear maps as one; with heads, each of which has its part of `first`, from
        (heads x in).

        Values of a weighted average are averaged values: `attn @ (x Wv + b) Wo = (attn @ x) (Wv Wo) + b Wo`, so that
        what makes values can come after the average.
        """
        first_hdi = self._matrix(first).double().unflatten(0, (heads, -1))
        second_chd = self._matrix(second).double().unflatten(1, (heads, -1))
        joined = torch.einsum("chd,hdi->chi", second_chd, first_hdi).flatten(1)
        bias = second_chd.flatten(1) @ first.bias.detach().double() + second.bias.detach().double()
        return self.store(joined.float(), bias.float())

    def keyed(self, query: Any, key_hdc: torch.Tensor) -> Dense:
        """The query projection and, per head, the key projection transposed, as one map to (heads x C)."""
        key = key_hdc.double()
        query_hdi = self._matrix(query).double().unflatten(0, key.shape[:2])
        bias_hd = query.bias.detach().double().unflatten(0, key.shape[:2])
        joined = torch.einsum("hdc,hdi->hci", key, query_hdi).flatten(0, 1)
        return self.store(joined.float(), torch.einsum("hdc,hd->hc", key, bias_hd).flatten().float())

    def store(self, weight: torch.Tensor, bias: torch.Tensor, *, then: Any = None) -> Dense:
        onednn = _POINTWISE.get(type(then).__name__) if _ONEDNN and weight.device.type == "cpu" else None
        if self.dtype != torch.float32 or (weight.numel() < _LARGE_WEIGHT and onednn != "gelu"):
            onednn = None
        kept = self.cast(weight)
        if onednn:
            kept = torch.ops.mkldnn._reorder_linear_weight(kept, _ROWS)
        return Dense(kept, self.cast(bias), then, onednn)

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(self.dtype).contiguous()

    def norm(self, layer: Any) -> Norm:
        weight, bias = layer.weight.detach(), layer.bias.detach()
        low = self.dtype == torch.bfloat16 and weight.device.type == "cuda"
        return Norm(weight, bias, layer.eps, (self.cast(weight), self.cast(bias)) if low else None)

    @staticmethod
    def _matrix(layer: Any) -> torch.Tensor:
        weight: torch.Tensor = layer.weight.detach()
        return weight.flatten(1)

    @staticmethod
    def _bias(layer: Any) -> torch.Tensor:
        bias: torch.Tensor | None = layer.bias
        return layer.weight.new_zeros(len(layer.weight)) if bias is None else bias.detach()


def as_tokens(x_bchw: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B, HW, C); no copy where the channels are innermost."""
    return x_bchw.flatten(2).transpose(1, 2)


def split(layer: Any, parts: int) -> list[Linear]:
    """A linear layer's outputs in equal parts."""
    return [Linear(*part) for part in zip(layer.weight.chunk(parts), layer.bias.chunk(parts), strict=True)]
