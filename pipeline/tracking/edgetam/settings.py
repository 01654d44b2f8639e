"""The settings of an EdgeTAM checkpoint that change masks and that the weights' names and shapes do not show."""

from collections.abc import Mapping
from typing import Any

from pipeline.tracking.sam2 import settings as sam2

NAME_IN_DIGEST = "edgetam_video"

CONFIG_IN_DIGEST = {
    "": (
        f"{sam2.CONFIG_IN_DIGEST['']} memory_attention_mlp_hidden_act memory_attention_rope_k_sizes "
        "perceiver_resampler_num_attention_heads perceiver_resampler_attention_head_dim"
    ),
    **{
        section: sam2.CONFIG_IN_DIGEST[section]
        for section in ("prompt_encoder_config", "mask_decoder_config", "vision_config")
    },
    "vision_config.backbone_config": "architecture model_args",
}


def object_cost(_: Mapping[str, Any]) -> float:
    """Cost of tracking one object on a frame, in units of a frame's fixed cost.

    A frame of 1024 px takes 55 + 73 n GFLOP for n objects with full memories, computed from the layers' sizes.
    """
    return 1.34


def memory_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of the memory of one object on one frame: bfloat16, the perceiver's 1D and 2D latents."""
    tokens = sum(int(config.get(f"perceiver_resampler_num_latents{kind}", 256)) for kind in ("", "_2d"))
    return 2 * tokens * int(config.get("memory_encoder_output_channels", 64))
