"""The settings of a SAM3 tracker that change masks, and the tracker's tensors in a checkpoint of the whole model."""

from collections.abc import Mapping
from typing import Any

from pipeline.tracking.sam2 import settings as sam2

NAME_IN_DIGEST = "sam3_tracker_video"
"""The tracker of a `sam3_video` checkpoint is the same model, and has the same digest."""

CONFIG_IN_DIGEST = {
    **{section: sam2.CONFIG_IN_DIGEST[section] for section in ("", "prompt_encoder_config", "mask_decoder_config")},
    "vision_config": "backbone_feature_sizes scale_factors",
    "vision_config.backbone_config": (
        "image_size patch_size pretrain_image_size window_size global_attn_indexes num_attention_heads hidden_act "
        "layer_norm_eps rope_parameters"
    ),
}

_PLACES = {
    "tracker_model.": "",
    "tracker_neck.": "vision_encoder.neck.",
    "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
}
"""Where the tracker's parts are in a checkpoint of the whole model, and where in the tracker."""
_DETECTOR = "detector_model."


def tracker_tensor(name: str) -> str | None:
    """The tracker's name of a tensor of a checkpoint; None for the detector's own tensors.

    Both kinds of checkpoint have names of both kinds: transformers 5.23 saves a tracker's encoder as
    `tracker_model.detector_model.vision_encoder.backbone.*`, and the tracker of a whole model below two prefixes.
    """
    while place := next((place for place in _PLACES if name.startswith(place)), None):
        name = _PLACES[place] + name.removeprefix(place)
    return None if name.startswith(_DETECTOR) else name


def object_cost(_: Mapping[str, Any]) -> float:
    """Cost of tracking one object on a frame, in units of a frame's fixed cost.

    A frame of 1008 px takes 5,680 + 640 n GFLOP for n objects with full memories, computed from the layers' sizes.
    """
    return 0.11


def memory_bytes(config: Mapping[str, Any]) -> int:
    """Bytes of the memory of one object on one frame: bfloat16, one token for each 14 x 14 pixels."""
    tokens = (int(config.get("image_size", 1008)) // 14) ** 2
    return 2 * tokens * int(config.get("memory_encoder_output_channels", 64))
