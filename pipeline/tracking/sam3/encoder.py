"""Frames to features: transformers' vision transformer and neck.

A rewrite with merged projections, constants built once and the rotation as one complex product was tried: a layer of
SAM 3's width took 1.09 to 1.21 times as long (576 tokens, one CPU thread), because matrix products bind it. The neck is
4 % of the encoder.
"""

from typing import Any

import torch

from pipeline.tracking.sam2.encoder import Features, Pixels
from pipeline.tracking.sam2.weights import Weights


class Sam3Encoder:
    def __init__(self, model: Any, weights: Weights, pixel_values: torch.Tensor) -> None:
        """`pixel_values` (3, 256) are the inputs for each byte of each channel."""
        self.pixels = Pixels(pixel_values, weights)
        self.vision = model.vision_encoder
        self.s1, self.s0 = model.mask_decoder.conv_s1, model.mask_decoder.conv_s0

    def __call__(self, bytes_fssc: torch.Tensor) -> Features:
        """Features of uint8 frames on the model's device."""
        fine, middle, top, _ = self.vision(self.pixels(bytes_fssc), return_dict=True).fpn_hidden_states
        return Features.of(*(x.permute(0, 2, 3, 1).contiguous() for x in (top, self.s1(middle), self.s0(fine))))
