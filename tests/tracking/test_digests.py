"""Digests of each family's checkpoints are those of earlier releases: another digest relabels a corpus."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.tracking import modelfiles

TENSORS = {
    "mask_decoder.iou_token.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
    "vision_encoder.neck.fpn_layers.0.proj1.bias": torch.ones(2, dtype=torch.bfloat16),
    "vision_encoder.backbone.layer_norm.weight": torch.zeros(1, dtype=torch.float16),
}
CONFIG = {
    "image_size": 112,
    "num_maskmem": 7,
    "max_cond_frame_num": 4,
    "prompt_encoder_config": {"patch_size": 14, "hidden_act": "gelu"},
    "mask_decoder_config": {"num_attention_heads": 8},
    "vision_config": {"scale_factors": [4.0, 2.0], "backbone_config": {"window_size": 24, "patch_kernel_size": 7}},
    "transformers_version": "5.23.0",
}
PROCESSOR = {"video_processor": {"size": {"height": 112, "width": 112}, "image_mean": [0.5, 0.5, 0.5]}}
GOLDEN = {
    "sam2_video": "112a1fbf9f454a5e2cd813d76c5e8dae24626575e97af8a92e131d4159f37a45",
    "sam3_tracker_video": "028f991bbad9389283ed1029fd49f77e71f55e0798e63e32707739a342fbf14e",
    "edgetam_video": "07115589c545fe1a02a42e7e8223e44a1bd3d81e03d675cc0f14f563839caa5a",
}


def checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "processor_config.json").write_text(json.dumps(PROCESSOR))
    save_file(tensors, folder / "model.safetensors")
    return modelfiles.resolve(str(folder)).digest


@pytest.mark.parametrize("model_type", GOLDEN)
def test_each_familys_digest_is_fixed(tmp_path: Path, model_type: str) -> None:
    assert checkpoint(tmp_path / "model", {"model_type": model_type, **CONFIG}, TENSORS) == GOLDEN[model_type]


def test_the_digest_of_a_tracker_ignores_where_it_is_and_the_detector(tmp_path: Path) -> None:
    whole = {"model_type": "sam3_video", "detector_config": {"image_size": 5}, "tracker_config": CONFIG}
    token, neck, norm = TENSORS.values()
    tensors = {
        "tracker_model.mask_decoder.iou_token.weight": token,
        "tracker_neck.fpn_layers.0.proj1.bias": neck,
        "detector_model.vision_encoder.backbone.layer_norm.weight": norm,
        "detector_model.vision_encoder.neck.fpn_layers.0.proj1.bias": norm.clone(),
        "detector_model.text_projection.weight": torch.ones(3),
    }
    assert checkpoint(tmp_path / "whole", whole, tensors) == GOLDEN["sam3_tracker_video"]
    tensors["tracker_neck.fpn_layers.0.proj1.bias"] = neck + 1
    assert checkpoint(tmp_path / "other", whole, tensors) != GOLDEN["sam3_tracker_video"]
    saved = {
        "tracker_model.tracker_model.mask_decoder.iou_token.weight": token,
        "tracker_model.tracker_neck.fpn_layers.0.proj1.bias": neck,
        "tracker_model.detector_model.vision_encoder.backbone.layer_norm.weight": norm,
    }
    tracker = {"model_type": "sam3_tracker_video", **CONFIG}
    assert checkpoint(tmp_path / "saved by transformers", tracker, saved) == GOLDEN["sam3_tracker_video"]
