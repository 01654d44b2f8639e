"""The settings of a SAM2 checkpoint that the network's code takes for granted.

`tests/tracking/test_requirements.py` lists every setting of transformers' configurations: those required here, those
that are read or part of transformers' own modules, and those without an effect.
"""

from typing import Any

from pipeline.tracking.requirements import Requirement, Setting, at_least, exactly, same_as

_MEMORY_CHANNELS = 64
"""transformers' memory attention takes memories of this width only."""


def _grid(of: Setting) -> int:
    """Image tokens per side."""
    return int(of("prompt_encoder_config.image_size")) // int(of("prompt_encoder_config.patch_size"))


def _levels(value: Any, of: Setting) -> bool:
    grid = _grid(of)
    return [list(level) for level in value] == [[n * grid, n * grid] for n in (4, 2, 1)]


def _divides(padding: int, kernel: int, stride: int) -> bool:
    """Whether a convolution divides every multiple of its stride by it."""
    return bool(0 <= 2 * padding - kernel + stride < stride)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


NETWORK = (
    same_as("image_size", "prompt_encoder_config.image_size"),
    Requirement(
        setting="vision_config.backbone_feature_sizes",
        allowed="four, two and one times image_size / prompt_encoder_config.patch_size, as [height, width]",
        holds=_levels,
    ),
    Requirement(
        setting="memory_attention_rope_feat_sizes",
        allowed="the last of vision_config.backbone_feature_sizes",
        holds=lambda value, of: list(value) == [_grid(of)] * 2,
    ),
    Requirement(
        setting="vision_config.fpn_hidden_size",
        allowed=f"multiples of {_MEMORY_CHANNELS} from {2 * _MEMORY_CHANNELS} on",
        holds=lambda value, _: value > _MEMORY_CHANNELS and value % _MEMORY_CHANNELS == 0,
    ),
    *(
        same_as("vision_config.fpn_hidden_size", setting)
        for setting in (
            "prompt_encoder_config.hidden_size",
            "mask_decoder_config.hidden_size",
            "memory_attention_hidden_size",
            "memory_encoder_hidden_size",
            "mask_downsampler_embed_dim",
            "memory_fuser_embed_dim",
        )
    ),
    exactly(_MEMORY_CHANNELS, "memory_encoder_output_channels"),
    at_least(1, "num_maskmem"),
    Requirement(
        setting="max_object_pointers_in_encoder",
        allowed="2 or more, because it divides the pointers' distances by the number minus one",
        holds=lambda value, _: value >= 2,
    ),
    Requirement(
        setting="sigmoid_scale_for_mem_enc", allowed="all but 0", holds=lambda value, _: value != 0, reference=True
    ),
    at_least(1, "memory_attention_num_layers", reference=True),
    Requirement(setting="mask_downsampler_stride", allowed="2, 4, 16", holds=lambda value, _: value in (2, 4, 16)),
    exactly(16, "mask_downsampler_total_stride"),
    Requirement(
        setting="mask_downsampler_padding",
        allowed="paddings with which mask_downsampler_stride divides the size",
        holds=lambda value, of: _divides(value, of("mask_downsampler_kernel_size"), of("mask_downsampler_stride")),
    ),
    Requirement(
        setting="memory_fuser_kernel_size",
        allowed="2 x memory_fuser_padding + 1",
        holds=lambda value, of: value == 2 * of("memory_fuser_padding") + 1,
    ),
    at_least(4, "prompt_encoder_config.num_point_embeddings"),
    at_least(1, "mask_decoder_config.num_hidden_layers", reference=True),
    at_least(1, "mask_decoder_config.num_multimask_outputs"),
    exactly(3, "mask_decoder_config.iou_head_depth", reference=True),
)
"""Of memory attention, memory encoder, prompt encoder and mask decoder, which the families share."""

NECK = (
    exactly(1, "vision_config.fpn_kernel_size", reference=True),
    exactly(1, "vision_config.fpn_stride"),
    exactly(0, "vision_config.fpn_padding", reference=True),
    Requirement(
        setting="vision_config.fpn_top_down_levels",
        allowed="[2, 3]",
        holds=lambda value, _: set(value) == {2, 3},
        reference=True,
    ),
    exactly(3, "vision_config.num_feature_levels"),
)

_HIERA = (
    exactly("sam2_hiera_det_model", "vision_config.backbone_config.model_type", reference=True),
    exactly(3, "vision_config.backbone_config.num_channels"),
    Requirement(
        setting="vision_config.backbone_config.patch_stride", allowed="4", holds=lambda value, _: _pair(value) == [4, 4]
    ),
    Requirement(
        setting="vision_config.backbone_config.patch_padding",
        allowed="paddings with which patch_stride divides the size",
        holds=lambda value, of: all(
            _divides(padding, kernel, 4)
            for padding, kernel in zip(
                _pair(value), _pair(of("vision_config.backbone_config.patch_kernel_size")), strict=True
            )
        ),
    ),
    Requirement(
        setting="vision_config.backbone_config.query_stride", allowed="2", holds=lambda value, _: _pair(value) == [2, 2]
    ),
    exactly(3, "vision_config.backbone_config.num_query_pool_stages"),
    Requirement(
        setting="vision_config.backbone_config.blocks_per_stage",
        allowed="four stages of one block or more",
        holds=lambda value, _: len(value) == 4 and min(value) > 0,
    ),
)

SAM2 = (
    Requirement(
        setting="image_size",
        allowed="multiples of 32",
        holds=lambda value, _: isinstance(value, int) and value > 0 and value % 32 == 0,
    ),
    exactly(16, "prompt_encoder_config.patch_size"),
    *NETWORK,
    *NECK,
    *_HIERA,
)


def processor_requirements(image_size: int) -> tuple[Requirement, ...]:
    """What is required of a processor's settings for images of this size."""
    return (
        exactly(True, "video_processor.do_resize"),
        Requirement(setting="video_processor.do_center_crop", allowed="false", holds=lambda value, _: not value),
        exactly(image_size, "video_processor.size.height"),
        exactly(image_size, "video_processor.size.width"),
        exactly(image_size, "target_size"),
    )
