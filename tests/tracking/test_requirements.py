"""Settings that the engine does not serve are refused by name and value, and all others equal transformers."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import pytest
import transformers

from pipeline.errors import ModelError
from pipeline.tracking import Engine
from pipeline.tracking.edgetam.requirements import EDGETAM
from pipeline.tracking.requirements import Requirement
from pipeline.tracking.sam2.model import Sam2
from pipeline.tracking.sam2.requirements import SAM2
from pipeline.tracking.sam3.requirements import SAM3
from tests.tracking import compare, models
from tests.tracking import videos as v

NO_EFFECT = {
    "": "initializer_range memory_attention_dropout memory_attention_rope_dropout memory_fuser_layer_scale_init_value",
    "mask_decoder_config": "hidden_act",
    "vision_config": "initializer_range hidden_act layer_norm_eps",
    "vision_config.backbone_config": (
        "initializer_range attention_dropout hidden_dropout layer_scale_init_value num_attention_heads"
    ),
}
"""Settings of training, of a model's first weights, and those that transformers does not read."""
SERVED = {
    "": (
        "prompt_encoder_config vision_config mask_decoder_config sigmoid_bias_for_mem_enc "
        "enable_occlusion_spatial_embedding multimask_output_in_sam multimask_min_pt_num multimask_max_pt_num "
        "multimask_output_for_tracking max_cond_frame_num enable_temporal_pos_encoding_for_object_pointers "
        "memory_attention_num_attention_heads memory_attention_downsample_rate "
        "memory_attention_feed_forward_hidden_size memory_attention_feed_forward_hidden_act rope_parameters "
        "mask_downsampler_kernel_size mask_downsampler_hidden_act memory_fuser_num_layers "
        "memory_fuser_intermediate_dim memory_fuser_padding memory_fuser_hidden_act"
    ),
    "prompt_encoder_config": "mask_input_channels hidden_act layer_norm_eps scale",
    "mask_decoder_config": (
        "mlp_dim num_attention_heads attention_downsample_rate iou_head_hidden_dim dynamic_multimask_via_stability "
        "dynamic_multimask_stability_delta dynamic_multimask_stability_thresh"
    ),
    "vision_config": "backbone_config backbone_channel_list",
}
"""Settings with any value that transformers takes: the parity tests change them."""
SERVED_HIERA = (
    "hidden_size image_size patch_kernel_size window_positional_embedding_background_size embed_dim_per_stage "
    "num_attention_heads_per_stage window_size_per_stage global_attention_blocks mlp_ratio hidden_act layer_norm_eps"
)
SERVED_VIT = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads hidden_act layer_norm_eps window_size "
    "global_attn_indexes pretrain_image_size rope_parameters patch_size image_size"
)
SERVED_EDGETAM = {
    "": (
        "memory_attention_mlp_hidden_size memory_attention_mlp_hidden_act perceiver_resampler_mlp_intermediate_size "
        "perceiver_resampler_num_attention_heads perceiver_resampler_num_layers "
        "perceiver_resampler_hidden_dropout perceiver_resampler_attention_dropout"
    ),
    "vision_config.backbone_config": "architecture model_args do_pooling",
}
FAMILIES: dict[str, tuple[Sequence[Requirement], dict[str, str]]] = {
    "sam2_video": (SAM2, {"vision_config.backbone_config": SERVED_HIERA}),
    "sam3_tracker_video": (SAM3, {"vision_config.backbone_config": SERVED_VIT}),
    "edgetam_video": (EDGETAM, SERVED_EDGETAM),
}

WRONG = {
    "image_size": (120, "multiples of "),
    "prompt_encoder_config.image_size": (64, "the value of image_size."),
    "prompt_encoder_config.patch_size": (8, ""),
    "prompt_encoder_config.hidden_size": (64, "the value of vision_config.fpn_hidden_size."),
    "prompt_encoder_config.num_point_embeddings": (2, "4 or more."),
    "mask_decoder_config.hidden_size": (64, "the value of vision_config.fpn_hidden_size."),
    "mask_decoder_config.num_hidden_layers": (0, "1 or more. --engine reference serves other values."),
    "mask_decoder_config.num_multimask_outputs": (0, "1 or more."),
    "mask_decoder_config.iou_head_depth": (2, "3. --engine reference serves other values."),
    "memory_attention_rope_feat_sizes": ([64, 64], "the last of vision_config.backbone_feature_sizes."),
    "memory_attention_hidden_size": (64, "the value of vision_config.fpn_hidden_size."),
    "memory_attention_num_layers": (0, "1 or more. --engine reference serves other values."),
    "memory_encoder_hidden_size": (64, "the value of vision_config.fpn_hidden_size."),
    "memory_encoder_output_channels": (32, "64."),
    "memory_fuser_embed_dim": (64, "the value of vision_config.fpn_hidden_size."),
    "memory_fuser_kernel_size": (3, "2 x memory_fuser_padding + 1."),
    "mask_downsampler_embed_dim": (64, "the value of vision_config.fpn_hidden_size."),
    "mask_downsampler_stride": (8, "2, 4, 16."),
    "mask_downsampler_total_stride": (8, "16."),
    "mask_downsampler_padding": (0, "paddings with which mask_downsampler_stride divides the size."),
    "num_maskmem": (0, "1 or more."),
    "max_object_pointers_in_encoder": (1, "2 or more, because"),
    "sigmoid_scale_for_mem_enc": (0.0, "all but 0. --engine reference serves other values."),
    "vision_config.backbone_feature_sizes": ([[8, 8]], "four, two and one times"),
    "vision_config.fpn_hidden_size": (64, "multiples of 64 from 128 on."),
    "vision_config.fpn_kernel_size": (3, "1. --engine reference serves other values."),
    "vision_config.fpn_stride": (2, "1."),
    "vision_config.fpn_padding": (1, "0. --engine reference serves other values."),
    "vision_config.fpn_top_down_levels": ([3], "[2, 3]. --engine reference serves other values."),
    "vision_config.num_feature_levels": (4, "3."),
    "perceiver_resampler_num_latents": (0, "1 or more. --engine reference serves other values."),
    "perceiver_resampler_num_latents_2d": (9, "squares of numbers that divide"),
    "perceiver_resampler_hidden_size": (32, "the value of memory_encoder_output_channels."),
    "perceiver_resampler_attention_head_dim": (32, "perceiver_resampler_hidden_size / "),
    "memory_attention_rope_k_sizes": ([8, 2], "the sides of a square of perceiver_resampler_num_latents_2d."),
    "vision_config.scale_factors": ([4.0, 2.0, 1.0], "[4.0, 2.0, 1.0, 0.5]."),
    "vision_config.backbone_config.model_type": ("hiera", ""),
    "vision_config.backbone_config.num_channels": (4, "3."),
    "vision_config.backbone_config.patch_stride": ([8, 8], "4."),
    "vision_config.backbone_config.patch_padding": ([0, 0], "paddings with which patch_stride divides the size."),
    "vision_config.backbone_config.query_stride": ([4, 4], "2."),
    "vision_config.backbone_config.num_query_pool_stages": (2, "3."),
    "vision_config.backbone_config.blocks_per_stage": ([1, 1, 1], "four stages of one block or more."),
}
"""A value that is not served, and what the error says is served."""

OTHER = {
    "num_maskmem": 1,
    "max_object_pointers_in_encoder": 2,
    "multimask_output_in_sam": False,
    "memory_attention_num_layers": 1,
    "memory_attention_num_attention_heads": 2,
    "memory_attention_downsample_rate": 2,
    "memory_attention_feed_forward_hidden_act": "gelu",
    "rope_parameters": {"rope_type": "axial", "rope_theta": 500.0},
    "mask_downsampler_stride": 4,
    "mask_downsampler_kernel_size": 5,
    "mask_downsampler_padding": 2,
    "mask_downsampler_hidden_act": "relu",
    "memory_fuser_num_layers": 1,
    "memory_fuser_kernel_size": 5,
    "memory_fuser_padding": 2,
    "memory_fuser_hidden_act": "silu",
}
OTHER_PROMPTS = {"mask_input_channels": 8, "hidden_act": "relu", "layer_norm_eps": 1e-5}
OTHER_DECODER = {
    "num_hidden_layers": 3,
    "attention_downsample_rate": 1,
    "num_multimask_outputs": 2,
    "dynamic_multimask_via_stability": False,
}

OTHER_HIERA = {
    "patch_kernel_size": [5, 5],
    "patch_padding": [2, 2],
    "window_positional_embedding_background_size": [5, 5],
    "num_attention_heads_per_stage": [2, 2, 2, 2],
    "window_size_per_stage": [4, 8, 4, 4],
    "global_attention_blocks": [0, 4],
    "mlp_ratio": 2.0,
    "hidden_act": "silu",
    "layer_norm_eps": 1e-5,
}
OTHER_VIT = {
    "num_attention_heads": 2,
    "hidden_act": "relu",
    "layer_norm_eps": 1e-5,
    "window_size": 4,
    "global_attn_indexes": [0, 2],
    "pretrain_image_size": 112,
    "rope_parameters": {"rope_type": "axial", "rope_theta": 500.0},
}
OTHER_EDGETAM = {
    "memory_attention_mlp_hidden_act": "gelu",
    "perceiver_resampler_num_latents": 5,
    "perceiver_resampler_num_latents_2d": 4,
    "memory_attention_rope_k_sizes": [2, 2],
    "perceiver_resampler_num_attention_heads": 4,
    "perceiver_resampler_attention_head_dim": 16,
    "perceiver_resampler_mlp_intermediate_size": 96,
    "perceiver_resampler_num_layers": 3,
}
SMALL: dict[str, Callable[[], Sam2]] = {
    "sam2_video": lambda: models.random_sam2(models.small_config()),
    "sam3_tracker_video": lambda: models.random_sam3(models.small_sam3_config()),
    "edgetam_video": lambda: models.random_edgetam(models.small_edgetam_config()),
}


def other(config: dict[str, Any], backbone: dict[str, Any]) -> dict[str, Any]:
    """The configuration with other values of everything that may have any."""
    config = copy.deepcopy(config) | OTHER
    config["prompt_encoder_config"] |= OTHER_PROMPTS
    config["mask_decoder_config"] |= OTHER_DECODER
    config["vision_config"]["backbone_config"] |= backbone
    return config


OTHER_MODELS: dict[str, Callable[[], Sam2]] = {
    "sam2_video": lambda: models.random_sam2(other(models.small_config(), OTHER_HIERA)),
    "sam3_tracker_video": lambda: models.random_sam3(other(models.small_sam3_config(), OTHER_VIT)),
    "edgetam_video": lambda: models.random_edgetam(other(models.small_edgetam_config(**OTHER_EDGETAM), {})),
}


def settings(config: Any, prefix: str = "") -> Iterator[str]:
    """Paths of all settings of a configuration of transformers."""
    inherited = {field.name for field in fields(transformers.PretrainedConfig)}
    for field in fields(config):
        if field.name not in inherited:
            yield prefix + field.name
            if isinstance(value := getattr(config, field.name), transformers.PretrainedConfig):
                yield from settings(value, f"{prefix}{field.name}.")


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_setting_of_transformers_is_accounted_for(model_type: str) -> None:
    """A setting that a newer transformers adds fails here until someone has decided what it means."""
    requirements, served = FAMILIES[model_type]
    known = {required.setting for required in requirements}
    for lists in (NO_EFFECT, SERVED, served):
        known |= {f"{section}.{name}".lstrip(".") for section, names in lists.items() for name in names.split()}
    assert set(settings(SMALL[model_type]().model.config)) - known == set()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_setting_that_is_not_served_is_refused_by_name_and_value(model_type: str) -> None:
    family = SMALL[model_type]()
    for required in FAMILIES[model_type][0]:
        value, allowed = WRONG[required.setting]
        config = family.model.config
        *sections, name = required.setting.split(".")
        for section in sections:
            config = getattr(config, section)
        before = getattr(config, name)
        setattr(config, name, value)
        with pytest.raises(ModelError) as refused:
            Engine(family)
        setattr(config, name, before)
        print(refused.value)
        assert f"Model random: {required.setting} is {value!r} in config.json; the engine serves {allowed}" in str(
            refused.value
        )
    Engine(family)


def test_a_processor_of_another_size_is_refused() -> None:
    family = SMALL["sam2_video"]()
    family.processor.target_size = 256
    with pytest.raises(ModelError, match=r"target_size is 256 in processor_config.json; the engine serves 128\."):
        Engine(family)
    family.processor.target_size = 128
    family.processor.video_processor.size = {"height": 256, "width": 256}
    with pytest.raises(ModelError, match=r"video_processor.size.height is 256 .* serves 128\."):
        Engine(family)
    family.processor.video_processor.do_resize = False
    with pytest.raises(ModelError, match=r"video_processor.do_resize is False .* serves True\."):
        Engine(family)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_other_values_of_all_other_settings_equal_transformers(model_type: str) -> None:
    family = OTHER_MODELS[model_type]()
    objects = [
        v.tracked(0, f1=v.prompt("click"), f5=v.prompt("clicks")),
        v.tracked(1, f0=v.prompt("box")),
        v.tracked(2, f2=v.prompt("mask")),
    ]
    compare.to_transformers(family, v.video(7), objects, "both").check()
