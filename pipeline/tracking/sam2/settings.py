"""The settings of a SAM2 checkpoint that change masks and that the weights' names and shapes do not show.

They enter the model's digest, and so the label key. The lists are fixed, so that a transformers version with more
defaults does not relabel a corpus.
"""

from collections.abc import Mapping
from typing import Any

CONFIG_IN_DIGEST = {
    "": (
        "image_size num_maskmem sigmoid_scale_for_mem_enc sigmoid_bias_for_mem_enc enable_occlusion_spatial_embedding "
        "multimask_output_in_sam multimask_min_pt_num multimask_max_pt_num multimask_output_for_tracking "
        "max_object_pointers_in_encoder max_cond_frame_num enable_temporal_pos_encoding_for_object_pointers "
        "memory_attention_num_attention_heads memory_attention_feed_forward_hidden_act mask_downsampler_stride "
        "mask_downsampler_padding mask_downsampler_hidden_act memory_fuser_padding memory_fuser_hidden_act "
        "memory_attention_rope_feat_sizes rope_parameters"
    ),
    "prompt_encoder_config": "image_size patch_size hidden_act layer_norm_eps",
    "mask_decoder_config": (
        "num_attention_heads dynamic_multimask_via_stability dynamic_multimask_stability_delta "
        "dynamic_multimask_stability_thresh"
    ),
    "vision_config": (
        "fpn_kernel_size fpn_stride fpn_padding fpn_top_down_levels num_feature_levels backbone_feature_sizes"
    ),
    "vision_config.backbone_config": (
        "patch_kernel_size patch_stride patch_padding query_stride window_size_per_stage global_attention_blocks "
        "num_attention_heads_per_stage num_query_pool_stages hidden_act layer_norm_eps"
    ),
}
"""By section of config.json, nested sections joined by a dot."""

PROCESSOR_IN_DIGEST = "size resample do_rescale rescale_factor do_normalize image_mean image_std"

_OBJECT_COSTS = {12: 1.39, 16: 1.13, 24: 0.63, 48: 0.23}
"""By number of encoder blocks: tiny, small, base+, large.

GFLOP a frame at 1024 px with full memories are 297 + 413 n for n objects with tiny, and 364, 657 and 1829 + 413 n with
the others, counted in the engine's products, convolutions and attention. What all objects of a frame share in memory
attention is 17 GFLOP of the first number.
"""


def object_cost(config: Mapping[str, Any]) -> float:
    """Cost of tracking one object on a frame, in units of a frame's fixed cost; that of tiny if the model is unknown.

    Args:
        config: config.json.
    """
    vision = config.get("vision_config") or {}
    blocks = (vision.get("backbone_config") or {}).get("blocks_per_stage") or ()
    return _OBJECT_COSTS.get(sum(blocks), _OBJECT_COSTS[12])


def memory_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of the memory of one object on one frame: bfloat16, one token for each 16 x 16 pixels.

    Args:
        config: config.json.
    """
    tokens = (int(config.get("image_size", 1024)) // 16) ** 2
    return 2 * tokens * int(config.get("memory_encoder_output_channels", 64))
