"""Models to test with: the embedded one, and a small one of random weights whose masks are not empty."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor
from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

try:
    from transformers import Sam2ImageProcessor
except ImportError:  # transformers before 5.20 calls the same class "fast"
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor

from pipeline.tracking.model import load
from pipeline.tracking.sam2.model import Sam2, wrap
from pipeline.tracking.sam2.step import Sam2Stepper


@cache
def embedded() -> Sam2:
    return load("embedded", device="cpu")


@cache
def random_model(seed: int = 0, **changes: Any) -> Sam2:
    """Random weights at 128 px; objects are present (bias), and masks, scores and memories are not degenerate."""
    return random_sam2(small_config(**changes), seed=seed)


def small_config(*, image_size: int = 128, **changes: Any) -> dict[str, Any]:
    grid = image_size // 16
    return {
        "image_size": image_size,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 256,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_encoder_hidden_size": 128,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 256,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": image_size},
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 256,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 64,
        },
        "vision_config": {
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 32,
                "image_size": [image_size, image_size],
                "blocks_per_stage": [1, 1, 3, 1],
                "embed_dim_per_stage": [32, 64, 128, 256],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, 8, 8],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": [256, 128, 64, 32],
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
            "fpn_hidden_size": 128,
        },
        **changes,
    }


def tiny_config(image_size: int) -> dict[str, Any]:
    """facebook/sam2.1-hiera-tiny's architecture at some image size."""
    grid = image_size // 16
    return {
        "image_size": image_size,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "prompt_encoder_config": {"image_size": image_size},
        "vision_config": {
            "backbone_config": {"model_type": "sam2_hiera_det_model", "image_size": [image_size, image_size]},
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
        },
    }


def random_sam2(config: dict[str, Any], *, seed: int = 0) -> Sam2:
    torch.manual_seed(seed)
    model = Sam2VideoModel(Sam2VideoConfig(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # transformers' start is so small that every logit would be near zero
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("memory_fuser.layers.0.scale"):
                parameter.fill_(0.1)
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2.0)
    size = config["image_size"]
    extent = {"height": size, "width": size}
    processor = Sam2VideoProcessor(
        image_processor=Sam2ImageProcessor(size=extent),
        video_processor=Sam2VideoVideoProcessor(size=extent),
        target_size=size,
    )
    return wrap(model, processor, name="random", digest=f"random-{seed}", device=torch.device("cpu"))


def with_stepper(sam2: Sam2, kind: type[Sam2Stepper]) -> Sam2:
    """The model with another stepper, which may watch or fail."""

    class Changed(Sam2):
        def stepper(self, *, dtype: torch.dtype) -> Sam2Stepper:
            return kind(self, dtype=dtype)

    return Changed(**vars(sam2))


def random_model_folder(folder: Path, sam2: Sam2 | None = None) -> str:
    """`random_model`, or another, as users have models: a folder for from_pretrained; returns its path as text."""
    sam2 = sam2 or random_model()
    sam2.model.save_pretrained(folder)
    sam2.processor.save_pretrained(folder)
    return str(folder)
