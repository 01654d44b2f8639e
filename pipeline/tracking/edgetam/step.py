"""One step of EdgeTAM: SAM2's with another encoder and with memories of few tokens, a part of which has positions."""

from typing import Any

import torch

from pipeline.tracking.edgetam.encoder import EdgeTamEncoder
from pipeline.tracking.edgetam.perceiver import Perceiver
from pipeline.tracking.edgetam.requirements import EDGETAM
from pipeline.tracking.sam2.attention import MemoryAttention, rotation
from pipeline.tracking.sam2.memory import MemoryEncoder
from pipeline.tracking.sam2.step import Sam2Stepper
from pipeline.tracking.sam2.weights import Dense, Weights


class EdgeTamMemoryEncoder(MemoryEncoder):
    def __init__(self, model: Any, weights: Weights) -> None:
        super().__init__(model, weights)
        self.perceiver = Perceiver(model, weights)

    def stored(self, memory_bnm: torch.Tensor) -> torch.Tensor:
        """The perceiver's latents, in fp32 as in transformers."""
        return self.perceiver(memory_bnm)


class EdgeTamMemoryAttention(MemoryAttention):
    def memory_positions(self, model: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The first tokens of a memory have no position and are not rotated; the others lie in a grid of their own."""
        config, perceiver = model.config, model.spatial_perceiver
        side = tuple(config.memory_attention_rope_k_sizes)
        in_grid = perceiver.positional_encoding((1, 1, *side), self.device, torch.float32)
        in_grid_nm = in_grid.flatten(2).transpose(1, 2)[0]
        rotated_nc = rotation(model.memory_attention, model.memory_attention.position_ids_k)
        count = config.perceiver_resampler_num_latents
        return (
            torch.cat([in_grid_nm.new_zeros(count, in_grid_nm.shape[1]), in_grid_nm]),
            torch.cat([rotated_nc.new_ones(count, rotated_nc.shape[1]), rotated_nc]),
        )

    @staticmethod
    def feed_forward(layer: Any, weights: Weights) -> tuple[Dense, Dense]:
        mlp = layer.mlp
        return weights.dense(mlp.up_proj, then=mlp.act_fn), weights.dense(mlp.down_proj)


class EdgeTamStepper(Sam2Stepper):
    requirements = EDGETAM
    encoder = EdgeTamEncoder
    memory_attention = EdgeTamMemoryAttention
    memory_encoder = EdgeTamMemoryEncoder
