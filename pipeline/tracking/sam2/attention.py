"""Memory attention: a frame's features attend to what each object remembers.

Rewritten for the work per row. Values are projected after attention's average (`Weights.composed`), so that memories
stay 64 wide. Rotation is one complex product. The first self-attention knows nothing of objects and is computed once a
frame.

Keys are projected for each frame. To keep them as long as their memories was tried: on a CPU it gave 0.99 to 1.01 of
the speed with several objects and with real models, for 16 MiB a memory at 1024 px.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.tracking.bank import MemoryContext
from pipeline.tracking.sam2.kernels import attend_memories
from pipeline.tracking.sam2.weights import Dense, Weights
from pipeline.tracking.transfer import to_device

_SCORES_OF_A_HEAD = 2 << 20
"""CPU: attention scores of one head computed together, so that they stay near the cache (8 MB)."""
_SCORES_OF_HEADS = 1 << 18
"""CPU: heads are computed together up to so many scores (1 MB)."""
_FEW_KEYS = 32
"""CPU: softmax over so short rows takes 5 to 15 times as long as over columns, which fill the vector registers."""

_TRACKS_WITH_ALL_KEYS = 8
"""CUDA: with more tracks in a batch the keys of all layers are not held together."""


def attend(q_bhnd: torch.Tensor, k_bhmd: torch.Tensor, v_bhme: torch.Tensor) -> torch.Tensor:
    """softmax(q k) v, with values of their own width and queries already scaled.

    On a CPU, scaled_dot_product_attention has a fast kernel for values as wide as keys alone, and that one takes 1.4 to
    3 times as long as two matrix products over slices that fit the cache.
    """
    if q_bhnd.device.type != "cpu":
        return F.scaled_dot_product_attention(q_bhnd, k_bhmd, v_bhme, scale=1.0)
    batch, heads, queries, _ = q_bhnd.shape
    keys = k_bhmd.shape[2]
    q = q_bhnd.flatten(0, 1)
    k = k_bhmd.flatten(0, 1)
    v = v_bhme.flatten(0, 1)
    if keys <= _FEW_KEYS < queries:
        shares = torch.softmax(torch.bmm(k, q.transpose(1, 2)), 1).transpose(1, 2)
        return torch.bmm(shares, v).unflatten(0, (batch, heads))
    out = q.new_empty(len(q), queries, v.shape[-1])
    rows = min(queries, max(64, _SCORES_OF_A_HEAD // keys // 64 * 64))
    together = max(1, _SCORES_OF_HEADS // (rows * keys))
    for first in range(0, len(q), together):
        some = slice(first, first + together)
        for row in range(0, queries, rows):
            part = some, slice(row, row + rows)
            torch.bmm(torch.softmax(torch.bmm(q[part], k[some].transpose(1, 2)), -1), v[some], out=out[part])
    return out.unflatten(0, (batch, heads))


class MemoryAttention:
    def __init__(self, model: Any, weights: Weights, device: torch.device) -> None:
        attention = model.memory_attention
        config = model.config
        self.config = config
        self.dtype = weights.dtype
        self.device = device
        self.mem_dim: int = model.mem_dim
        height, width = model.backbone_feature_sizes[-1]
        top = model.vision_encoder.neck.position_encoding((1, 1, height, width), device, torch.float32)
        self.position_nc = weights.cast(0.1 * top.flatten(2).transpose(1, 2)[0])
        self.rotation_nc = rotation(attention, attention.position_ids)
        spatial_nm, memory_rotation_nc = self.memory_positions(model)
        temporal = model.memory_temporal_positional_encoding.detach()[:, 0]
        # a prompted frame's age is 0, and transformers' index of it -1
        self.position_by_age = [spatial_nm + temporal[age - 1] for age in range(config.num_maskmem)]
        half = model.hidden_dim // 2
        index = torch.arange(half, dtype=torch.float32, device=device)
        self.wave_lengths = 10000 ** (2 * (index // 2) / half)
        projection = model.temporal_positional_encoding_projection_layer
        self.distance_projection = weights.dense(projection) if hasattr(projection, "weight") else None
        self.use_distance = config.enable_temporal_pos_encoding_for_object_pointers
        self.layers = [
            _Layer(layer, self.feed_forward(layer, weights), weights, self.rotation_nc, memory_rotation_nc)
            for layer in attention.layers
        ]
        self.norm = weights.norm(attention.layer_norm)
        # Fewer launches, for 59 MB a track at 1024 px. On a CPU and in fp32 memory counts more.
        together = device.type == "cuda" and self.dtype == torch.bfloat16
        crosses = [layer.cross_attn_image for layer in attention.layers]
        self.keys = _Keys(crosses, weights, memory_rotation_nc) if together else None

    def memory_positions(self, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the N tokens of a memory: position encoding (N, M) and rotation of their keys (N, C / 2)."""
        size = (1, 1, *model.backbone_feature_sizes[-1])
        spatial = model.memory_encoder.position_encoding(size, self.device, torch.float32)
        return spatial.flatten(2).transpose(1, 2)[0], self.rotation_nc

    @staticmethod
    def feed_forward(layer: Any, weights: Weights) -> tuple[Dense, Dense]:
        """The two maps of a layer's feed-forward network."""
        return weights.dense(layer.linear1, then=layer.activation), weights.dense(layer.linear2)

    def start(self, top_fnc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What all objects of a frame share: the first layer up to its queries to the memory."""
        x = top_fnc + self.position_nc
        x = x + self.layers[0].attend_self(x)
        return x, self.layers[0].queries(x)

    def __call__(
        self, x_bnc: torch.Tensor, q_bhnd: torch.Tensor, groups: Sequence[Sequence[MemoryContext]]
    ) -> torch.Tensor:
        """`groups` are the B tracks' memories in order, those of the same shape together."""
        remembered = [self._gather(group) for group in groups]
        for n, layer in enumerate(self.layers):
            if n:
                x_bnc = x_bnc + layer.attend_self(x_bnc)
                q_bhnd = layer.queries(x_bnc)
            x_bnc = x_bnc + layer.attend_memory(q_bhnd, remembered, n)
            x_bnc = x_bnc + layer.feed_forward(x_bnc)
        return self.norm(x_bnc)

    def _gather(self, group: Sequence[MemoryContext]) -> "_Remembered":
        tracks = len(group)
        first = group[0]
        spatial = torch.cat([m for context in group for m in context.memories]).view(tracks, -1, self.mem_dim)
        position = torch.cat([self.position_by_age[age] for age in first.ages])
        pointers = torch.stack([p for context in group for p in context.pointers])
        splits = pointers.shape[-1] // self.mem_dim if self.mem_dim < pointers.shape[-1] else 1
        pointers = pointers.view(tracks, -1, self.mem_dim)
        keyed = pointers
        if self.use_distance:
            distances = [[d / (context.max_pointers - 1) for d in context.distances] for context in group]
            scaled = to_device(torch.tensor(distances, dtype=torch.float32), self.device)
            angles = scaled[..., None] / self.wave_lengths
            encoding = torch.cat([angles.sin(), angles.cos()], -1)
            if self.distance_projection is not None:
                encoding = self.distance_projection(encoding)
            keyed = self._added(pointers.unflatten(1, (-1, splits)), encoding[:, :, None]).flatten(1, 2)
        values = torch.cat([spatial, pointers.to(self.dtype)], 1).to(self.dtype)
        remembered = _Remembered(self._added(spatial, position), keyed.to(self.dtype), values)
        if self.keys is not None and tracks <= _TRACKS_WITH_ALL_KEYS:
            remembered.keys_blhkd = self.keys(remembered).unflatten(1, (len(self.layers), -1))
        return remembered

    def _added(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The sum, computed in fp32 and stored in the compute dtype by one kernel."""
        return torch.add(x, position, out=torch.empty_like(x, dtype=self.dtype))


class _Remembered:
    """Memories of tracks with the same number of memories and pointers, before any layer's projection."""

    def __init__(self, spatial_bmm: torch.Tensor, pointers_bpm: torch.Tensor, values_bkm: torch.Tensor) -> None:
        self.spatial_bmm = spatial_bmm
        self.pointers_bpm = pointers_bpm
        self.values_bkm = values_bkm
        self.keys_blhkd: torch.Tensor | None = None
        """The keys of all layers, if they were projected together."""


class _Keys:
    """The keys of the memories, for the heads of one layer or of several."""

    def __init__(self, layers: Sequence[Any], weights: Weights, rotation_nc: torch.Tensor) -> None:
        self.heads: int = sum(layer.num_attention_heads for layer in layers)
        self.key = weights.dense(*(layer.k_proj for layer in layers))
        self.rotation = rotation_nc

    def __call__(self, group: _Remembered) -> torch.Tensor:
        tracks, spatial, _ = group.spatial_bmm.shape
        k = self.key(group.spatial_bmm).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        pointers = self.key(group.pointers_bpm).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys = k.new_empty(tracks, self.heads, spatial + pointers.shape[2], k.shape[-1])
        _rotate(k, self.rotation, spatial // len(self.rotation), out=keys[:, :, :spatial])
        keys[:, :, spatial:] = pointers
        return keys


def _rotate(
    x_bhkd: torch.Tensor, rotation_nc: torch.Tensor, repeats: int, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Rotate pairs of channels by their position; `repeats` grids follow each other."""
    pairs = torch.view_as_complex(x_bhkd.float().unflatten(-1, (-1, 2)))
    pairs = pairs.unflatten(2, (repeats, -1))
    if out is not None and out.dtype == torch.float32:
        into = torch.view_as_complex(out.unflatten(-1, (-1, 2))).unflatten(2, (repeats, -1))
        torch.mul(pairs, rotation_nc, out=into)
        return out
    rotated = torch.view_as_real(pairs * rotation_nc).flatten(-2).flatten(2, 3)
    if out is None:
        return rotated.to(x_bhkd.dtype)
    out.copy_(rotated)
    return out


def rotation(attention: Any, position_ids: torch.Tensor) -> torch.Tensor:
    """(N, C / 2) complex: the rotation of each pair of channels at N positions."""
    cos, sin = attention.rotary_emb(torch.empty(0, device=position_ids.device), position_ids)
    return torch.complex(cos[0, :, ::2].float(), sin[0, :, ::2].float()).contiguous()


class _Layer:
    def __init__(
        self,
        layer: Any,
        feed_forward: tuple[Dense, Dense],
        weights: Weights,
        rotation_nc: torch.Tensor,
        memory_rotation_nc: torch.Tensor,
    ) -> None:
        own, cross = layer.self_attn, layer.cross_attn_image
        self.dtype = weights.dtype
        self.rotation = rotation_nc
        self.heads: int = own.num_attention_heads
        self.norm1, self.norm2, self.norm3 = (
            weights.norm(n) for n in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3)
        )
        self.qk = weights.dense(own.q_proj, own.k_proj, scale_first=own.scaling)
        self.out = weights.composed(own.v_proj, own.o_proj, heads=self.heads)
        self.query = weights.dense(cross.q_proj, scale_first=cross.scaling)
        self.keys = _Keys([cross], weights, memory_rotation_nc)
        self.value_out = weights.composed(cross.v_proj, cross.o_proj, heads=self.heads)
        self.linear1, self.linear2 = feed_forward

    def attend_self(self, x_bnc: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x_bnc).to(self.dtype)
        qk = _rotate(self.qk(x).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2), self.rotation, 1)
        out = attend(qk[:, : self.heads], qk[:, self.heads :], x[:, None].expand(-1, self.heads, -1, -1))
        return self.out(out.transpose(1, 2).flatten(2))

    def queries(self, x_bnc: torch.Tensor) -> torch.Tensor:
        q = self.query(self.norm2(x_bnc))
        return _rotate(q.unflatten(-1, (self.heads, -1)).transpose(1, 2), self.rotation, 1)

    def attend_memory(self, q_bhnd: torch.Tensor, groups: Sequence[_Remembered], number: int) -> torch.Tensor:
        """The queries' attention to the memories; `number` is this layer's."""
        parts = []
        done = 0
        for group in groups:
            tracks = len(group.values_bkm)
            q = q_bhnd[done : done + tracks]
            v = group.values_bkm[:, None].expand(-1, self.heads, -1, -1)
            keys = self.keys(group) if group.keys_blhkd is None else group.keys_blhkd[:, number]
            out = attend(q, keys, v) if q.device.type == "cpu" else attend_memories(q, keys, v)
            parts.append(out)
            done += tracks
        out_bhnm = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.value_out(out_bhnm.transpose(1, 2).flatten(2))

    def feed_forward(self, x_bnc: torch.Tensor) -> torch.Tensor:
        return self.linear2(self.linear1(self.norm3(x_bnc)))
