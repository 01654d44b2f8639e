"""Detectors with small random weights, saved as folders that the real loading code reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

CLASSES = ("car", "person", "red bird")
CLOSED = {0: "person", 1: "car", 2: "Red_Bird", 3: "tree"}
_LABELS = {"id2label": CLOSED, "label2id": {name: number for number, name in CLOSED.items()}}
_RESNET = {
    "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}  # fmt: skip
_RT_RESNET = {
    "model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
    "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"],
}  # fmt: skip
_RT = {
    "backbone_config": _RT_RESNET, "encoder_hidden_dim": 32, "encoder_in_channels": [16, 16, 16], "encoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "d_model": 32, "num_queries": 12, "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 32, "decoder_layers": 2, "decoder_attention_heads": 2, "num_denoising": 0, **_LABELS,
}  # fmt: skip
_SWIN = {
    "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4,
    "image_size": 64,
}  # fmt: skip
_CLIP_TEXT = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320,
    "bos_token_id": 318, "eos_token_id": 319, "pad_token_id": 319,
}  # fmt: skip


def save(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """A random detector of this `model_type` in a folder of its own."""
    where = folder / kind
    torch.manual_seed(seed)
    model, processor = _MAKERS[kind]()
    model.save_pretrained(where)
    processor.save_pretrained(where)
    return where


def _spread(linear: Any, bias: float = 0.0, gain: float = 30.0) -> None:
    """Make scores of random weights differ, so that a threshold keeps some boxes."""
    with torch.no_grad():
        linear.weight.mul_(gain)
        linear.bias.fill_(bias)


def _rt_detr() -> tuple[Any, Any]:
    model = transformers.RTDetrForObjectDetection(transformers.RTDetrConfig(**_RT))
    for head in (*model.model.decoder.class_embed, model.model.enc_score_head):
        _spread(head)
    return model, transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})


def _rt_detr_v2() -> tuple[Any, Any]:
    model = transformers.RTDetrV2ForObjectDetection(transformers.RTDetrV2Config(**_RT))
    for head in (*model.model.decoder.class_embed, model.model.enc_score_head):
        _spread(head)
    return model, transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})


def _d_fine() -> tuple[Any, Any]:
    config = transformers.DFineConfig(**_RT, max_num_bins=8, lqe_hidden_dim=16)
    model = transformers.DFineForObjectDetection(config)
    for head in (*model.model.decoder.class_embed, model.model.enc_score_head):
        _spread(head)
    return model, transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})


def _rf_detr() -> tuple[Any, Any]:
    backbone = {
        "model_type": "rf_detr_dinov2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 64, "patch_size": 16, "num_windows": 2, "out_indices": [1, 2], "mlp_ratio": 2,
    }  # fmt: skip
    config = transformers.RfDetrConfig(
        backbone_config=backbone, d_model=32, decoder_ffn_dim=32, decoder_layers=2, decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2, num_queries=12, group_detr=2, **_LABELS,
    )  # fmt: skip
    model = transformers.RfDetrForObjectDetection(config)
    _spread(model.class_embed)
    return model, transformers.RfDetrImageProcessor(size={"height": 64, "width": 64})


def _detr() -> tuple[Any, Any]:
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=_RESNET, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, num_queries=12,
        **_LABELS,
    )  # fmt: skip
    model = transformers.DetrForObjectDetection(config)
    _spread(model.class_labels_classifier)
    return model, transformers.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})


def _bert() -> Any:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "car", "person", "red", "bird"]
    return transformers.BertTokenizer(vocab={word: at for at, word in enumerate(words)})


def _grounding(config_class: Any, model_class: Any) -> tuple[Any, Any]:
    text = {
        "model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "vocab_size": 16,
    }  # fmt: skip
    config = config_class(
        backbone_config=_SWIN | {"out_indices": [2, 3, 4]}, text_config=text, num_queries=12, encoder_layers=1,
        encoder_ffn_dim=32, encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=2,
        d_model=32, num_feature_levels=4, max_text_len=64, disable_custom_kernels=True,
    )  # fmt: skip
    model = model_class(config)
    for name, parameter in model.named_parameters():
        if "class_embed" in name and parameter.ndim == 0:
            parameter.data.fill_(1.0)  # otherwise all scores of MM-Grounding-DINO are 0.01
    processor = transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}), _bert()
    )
    return model, processor


def _clip() -> Any:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: at for at, word in enumerate(words)} | {"<|startoftext|>": 318, "<|endoftext|>": 319}
    return CLIPTokenizer(vocab=vocab, merges=[], pad_token="<|endoftext|>")


def _owlv2() -> tuple[Any, Any]:
    config = transformers.Owlv2Config(
        text_config=_CLIP_TEXT | {"max_position_embeddings": 16},
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16,
        },
        projection_dim=32,
    )  # fmt: skip
    model = transformers.Owlv2ForObjectDetection(config)
    processor = transformers.Owlv2Processor(transformers.Owlv2ImageProcessor(size={"height": 64, "width": 64}), _clip())
    return model, processor


def _omdet() -> tuple[Any, Any]:
    config = transformers.OmDetTurboConfig(
        text_config=_CLIP_TEXT | {"model_type": "clip_text_model", "hidden_size": 48, "max_position_embeddings": 77},
        backbone_config=_SWIN | {"out_indices": [2, 3, 4]}, image_size=64, text_projection_in_dim=48,
        text_projection_out_dim=48, task_encoder_hidden_dim=32, class_embed_dim=48, num_queries=12,
        encoder_hidden_dim=32, vision_features_channels=[32, 32, 32], encoder_in_channels=[16, 32, 64],
        encoder_attention_heads=2, encoder_dim_feedforward=32, decoder_hidden_dim=32, decoder_num_heads=2,
        decoder_num_layers=1, decoder_dim_feedforward=32, disable_custom_kernels=True,
        apply_layernorm_after_vision_backbone=False,
    )  # fmt: skip
    model = transformers.OmDetTurboForObjectDetection(config)
    processor = transformers.OmDetTurboProcessor(
        transformers.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False), _clip()
    )
    return model, processor


def _sam3() -> tuple[Any, Any]:
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "num_layers": 1}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "image_size": 112, "patch_size": 14, "window_size": 4,
                "global_attn_indexes": [1], "pretrain_image_size": 56,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config=_CLIP_TEXT | {"projection_dim": 32, "max_position_embeddings": 32},
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config=small | {"num_queries": 12},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )  # fmt: skip
    processor = transformers.Sam3Processor(
        transformers.Sam3ImageProcessor(
            size={"height": 112, "width": 112}, mask_size={"height": 32, "width": 32}
        ), _clip()
    )  # fmt: skip
    return transformers.Sam3Model(config), processor


_MAKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "detr": _detr,
    "rt_detr": _rt_detr,
    "rt_detr_v2": _rt_detr_v2,
    "d_fine": _d_fine,
    "rf_detr": _rf_detr,
    "grounding-dino": lambda: _grounding(
        transformers.GroundingDinoConfig, transformers.GroundingDinoForObjectDetection
    ),
    "mm-grounding-dino": lambda: _grounding(
        transformers.MMGroundingDinoConfig, transformers.MMGroundingDinoForObjectDetection
    ),
    "owlv2": _owlv2,
    "omdet-turbo": _omdet,
    "sam3": _sam3,
}
KINDS = tuple(_MAKERS)
