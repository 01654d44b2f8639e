"""The settings of a SAM3 tracker that the network's code takes for granted."""

from pipeline.tracking.requirements import Requirement, exactly, same_as
from pipeline.tracking.sam2.requirements import NETWORK

SAM3 = (
    exactly("sam3_vit_model", "vision_config.backbone_config.model_type"),
    Requirement(
        setting="image_size",
        allowed="multiples of vision_config.backbone_config.patch_size",
        holds=lambda value, of: value > 0 and value % of("vision_config.backbone_config.patch_size") == 0,
    ),
    same_as("vision_config.backbone_config.patch_size", "prompt_encoder_config.patch_size"),
    *NETWORK,
    exactly(3, "vision_config.backbone_config.num_channels"),
    exactly([4.0, 2.0, 1.0, 0.5], "vision_config.scale_factors"),
)
