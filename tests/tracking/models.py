"""Models to test with: the embedded one, and a small one of random weights whose masks are not empty."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoModel,
    Sam3TrackerVideoProcessor,
    Sam3VideoConfig,
    Sam3VideoModel,
)
from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

try:
    from transformers import Sam2ImageProcessor
except ImportError:  # transformers before 5.20 calls the same class "fast"
    from transformers import Sam2ImageProcessorFast as Sam2ImageProcessor

from pipeline.tracking.edgetam.model import EdgeTam
from pipeline.tracking.model import load
from pipeline.tracking.sam2.model import Loaded, Sam2, wrap
from pipeline.tracking.sam2.step import Sam2Stepper
from pipeline.tracking.sam3.model import Sam3


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
        **small_network(image_size, patch_size=16),
        "memory_attention_feed_forward_hidden_size": 256,
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


def small_network(image_size: int, *, patch_size: int) -> dict[str, Any]:
    """What the families' configurations have in common, at a small size."""
    grid = image_size // patch_size
    return {
        "image_size": image_size,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 2,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": 128,
        "mask_downsampler_embed_dim": 128,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 256,
        "prompt_encoder_config": {"hidden_size": 128, "image_size": image_size, "patch_size": patch_size},
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 256,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": 64,
        },
    }


def small_sam3_config(*, image_size: int = 112, **changes: Any) -> dict[str, Any]:
    """A grid of 8 x 8 as the images of 1008 px have one of 72 x 72: memory masks are larger than the image."""
    return {
        **small_network(image_size, patch_size=14),
        "memory_attention_feed_forward_hidden_size": 256,
        "vision_config": {
            "model_type": "sam3_vision_model",
            "fpn_hidden_size": 128,
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": image_size,
                "patch_size": 14,
                "pretrain_image_size": 56,
                "window_size": 3,
                "global_attn_indexes": [1],
            },
        },
        **changes,
    }


def small_edgetam_config(*, image_size: int = 128, **changes: Any) -> dict[str, Any]:
    grid = image_size // 16
    return {
        **small_network(image_size, patch_size=16),
        "memory_attention_mlp_hidden_size": 256,
        "memory_attention_rope_k_sizes": [4, 4],
        "perceiver_resampler_num_latents": 24,
        "perceiver_resampler_num_latents_2d": 16,
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "fpn_hidden_size": 128,
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m0_9",
                "num_classes": 1,
                "label_names": ["LABEL_0"],
                "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
            },
            "backbone_channel_list": [384, 192, 96, 48],
            "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
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
    return _random(Sam2, model, Sam2VideoProcessor, seed=seed)


def random_sam3(config: dict[str, Any], *, seed: int = 0) -> Sam3:
    torch.manual_seed(seed)
    model = Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**config))
    return _random(Sam3, model, Sam3TrackerVideoProcessor, seed=seed)


def random_edgetam(config: dict[str, Any], *, seed: int = 0) -> EdgeTam:
    torch.manual_seed(seed)
    model = EdgeTamVideoModel(EdgeTamVideoConfig(**config))
    return _random(EdgeTam, model, Sam2VideoProcessor, seed=seed)


def _random(kind: type[Loaded], model: Any, processor: Any, *, seed: int) -> Loaded:
    give_weights(model)
    size = model.config.image_size
    extent = {"height": size, "width": size}
    processor = processor(
        image_processor=Sam2ImageProcessor(size=extent),
        video_processor=Sam2VideoVideoProcessor(size=extent),
        target_size=size,
    )
    device = torch.device("cpu")
    return wrap(kind, model, processor, name="random", digest=f"random-{kind.__name__}-{seed}", device=device)


def random_sam3_folder(folder: Path, tracker: Sam3) -> str:
    """A checkpoint of a whole SAM3 video model with this tracker and a small detector; returns its path as text."""
    config = tracker.model.config.to_dict()
    part = {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"model_type": "clip_text_model", "vocab_size": 50000, "hidden_size": 32, "intermediate_size": 32}
    detector = {
        "model_type": "sam3",
        "vision_config": config["vision_config"],
        "text_config": {**text, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 32},
        "geometry_encoder_config": part,
        "detr_encoder_config": part,
        "detr_decoder_config": part,
        "mask_decoder_config": {"hidden_size": 128},
    }
    whole = Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=config))
    parts = (
        ("vision_encoder.backbone.", whole.detector_model.vision_encoder.backbone),
        ("vision_encoder.neck.", whole.tracker_neck),
        ("", whole.tracker_model),
    )
    weights = tracker.model.state_dict()
    for prefix, module in parts:
        own = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        module.load_state_dict({n: w for n, w in own.items() if prefix or not n.startswith("vision_encoder.")})
    whole.save_pretrained(folder)
    tracker.processor.save_pretrained(folder)
    return str(folder)


def give_weights(tracker: Any) -> None:
    """Random weights with which masks are not empty."""
    with torch.no_grad():
        for name, parameter in tracker.named_parameters():
            if parameter.dim() > 1:  # transformers' start is so small that every logit would be near zero
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            elif name.endswith("memory_fuser.layers.0.scale"):
                parameter.fill_(0.1)
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(2.0)


FAMILIES: dict[str, Callable[[], Sam2]] = {
    "sam2_video": cache(lambda: random_sam2(small_config(), seed=1)),
    "sam3_tracker_video": cache(lambda: random_sam3(small_sam3_config(), seed=1)),
    "edgetam_video": cache(lambda: random_edgetam(small_edgetam_config(), seed=1)),
}
"""A small random model of each family, by its model_type."""


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
