"""The embedded model's shape: a SAM2 video model of 2.8 M parameters."""

from __future__ import annotations

from transformers import Sam2VideoConfig


def tiny_config(image_size: int) -> Sam2VideoConfig:
    """Configuration for square frames of `image_size` pixels (a multiple of 32); masks come out at a quarter of it.

    No weight depends on `image_size`, so a checkpoint moves between sizes. The windows of the two last stages span
    their whole feature map, which spares the padding that fixed windows would need.
    """
    fine, middle, coarse = (image_size // stride for stride in (4, 8, 16))
    return Sam2VideoConfig(
        image_size=image_size,
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 32,
                "image_size": [image_size, image_size],
                "blocks_per_stage": [1, 1, 3, 1],
                "embed_dim_per_stage": [32, 64, 128, 256],
                "num_attention_heads_per_stage": [1, 2, 4, 8],
                "window_size_per_stage": [8, 4, coarse, coarse // 2],
                "global_attention_blocks": [3],
                "window_positional_embedding_background_size": [7, 7],
            },
            "backbone_channel_list": [256, 128, 64, 32],
            "backbone_feature_sizes": [[fine, fine], [middle, middle], [coarse, coarse]],
            "fpn_hidden_size": 128,
        },
        prompt_encoder_config={"hidden_size": 128, "image_size": image_size, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 256, "num_attention_heads": 4, "iou_head_hidden_dim": 64},
        memory_attention_hidden_size=128,
        memory_attention_num_layers=2,
        memory_attention_feed_forward_hidden_size=256,
        memory_attention_rope_feat_sizes=[coarse, coarse],
        memory_attention_dropout=0.0,
        memory_attention_rope_dropout=0.0,
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,  # transformers hard-codes 64 in the memory attention
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=128,
    )
