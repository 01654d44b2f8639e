"""Frames to features: timm's convolutional network, its branches and batch norms folded, and SAM2's neck."""

from typing import Any

import torch

from pipeline.tracking.sam2.encoder import Features, Neck, Pixels
from pipeline.tracking.sam2.weights import Weights


class EdgeTamEncoder:
    def __init__(self, model: Any, weights: Weights, pixel_values: torch.Tensor) -> None:
        """`pixel_values` (3, 256) are the inputs for each byte of each channel."""
        from timm.utils.model import reparameterize_model

        self.pixels = Pixels(pixel_values, weights)
        network = reparameterize_model(model.vision_encoder.backbone.timm_model)
        self.network = network.to(dtype=weights.dtype).to(memory_format=torch.channels_last)
        self.neck = Neck(model, weights)

    def __call__(self, bytes_fssc: torch.Tensor) -> Features:
        """Features of uint8 frames on the model's device."""
        stages = self.network(self.pixels(bytes_fssc))
        return self.neck([stage_fchw.permute(0, 2, 3, 1).contiguous() for stage_fchw in stages])
