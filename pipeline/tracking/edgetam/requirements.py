"""The settings of an EdgeTAM checkpoint that the network's code takes for granted."""

from math import isqrt

from pipeline.tracking.requirements import Requirement, Setting, at_least, exactly, same_as
from pipeline.tracking.sam2.requirements import NECK, NETWORK


def _divides_grid(latents: int, of: Setting) -> bool:
    side = isqrt(latents)
    grid = of("prompt_encoder_config.image_size") // of("prompt_encoder_config.patch_size")
    return bool(side > 0 and side * side == latents and grid % side == 0)


EDGETAM = (
    exactly("timm_wrapper", "vision_config.backbone_config.model_type"),
    Requirement(
        setting="image_size",
        allowed="multiples of 32",
        holds=lambda value, _: isinstance(value, int) and value > 0 and value % 32 == 0,
    ),
    exactly(16, "prompt_encoder_config.patch_size"),
    *NETWORK,
    *NECK,
    at_least(1, "perceiver_resampler_num_latents", reference=True),
    Requirement(
        setting="perceiver_resampler_num_latents_2d",
        allowed="squares of numbers that divide image_size / prompt_encoder_config.patch_size",
        holds=_divides_grid,
    ),
    Requirement(
        setting="memory_attention_rope_k_sizes",
        allowed="the sides of a square of perceiver_resampler_num_latents_2d",
        holds=lambda value, of: list(value) == [isqrt(of("perceiver_resampler_num_latents_2d"))] * 2,
        reference=True,
    ),
    same_as("memory_encoder_output_channels", "perceiver_resampler_hidden_size"),
    Requirement(
        setting="perceiver_resampler_attention_head_dim",
        allowed="perceiver_resampler_hidden_size / perceiver_resampler_num_attention_heads",
        holds=lambda value, of: (
            value * of("perceiver_resampler_num_attention_heads") == of("perceiver_resampler_hidden_size")
        ),
    ),
)
