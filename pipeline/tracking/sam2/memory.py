"""The memory encoder: a frame's features and a mask become the memory that later frames attend to."""

from typing import Any

import torch
import torch.nn.functional as F

from pipeline.tracking.sam2.weights import Weights, as_tokens


class MemoryEncoder:
    def __init__(self, model: Any, weights: Weights) -> None:
        encoder = model.memory_encoder
        config = model.config
        self.image_size: int = model.image_size
        self.mask_size: int = 4 * model.prompt_encoder.mask_input_size[0]
        """Of the masks that become memories: the image's for SAM2, another for SAM3."""
        self.grid: tuple[int, int] = tuple(model.backbone_feature_sizes[-1])
        # scale * mask + bias = scale * (mask - shift), and the scale goes into the first convolution
        self.shift = -config.sigmoid_bias_for_mem_enc / config.sigmoid_scale_for_mem_enc
        scale = config.sigmoid_scale_for_mem_enc
        self.stages = [
            _Downsampling(layer, weights, scale=1.0 if n else scale)
            for n, layer in enumerate(encoder.mask_downsampler.layers)
        ]
        self.activation = encoder.mask_downsampler.activation
        self.mask_out = weights.dense(encoder.mask_downsampler.final_conv)
        self.feature = weights.dense(encoder.feature_projection)
        self.fusers = [_Fuser(layer, weights) for layer in encoder.memory_fuser.layers]
        self.out = weights.dense(encoder.projection)
        occlusion = model.occlusion_spatial_embedding_parameter
        self.occlusion = None if occlusion is None else occlusion.detach()

    def project(self, top_fnc: torch.Tensor) -> torch.Tensor:
        """What all objects of a frame share."""
        return self.feature(top_fnc)

    def __call__(
        self, feature_bnc: torch.Tensor, high_b1ss: torch.Tensor, object_logit_b: torch.Tensor, *, binary: bool
    ) -> torch.Tensor:
        """(B, N, M) memories of N tokens; `high_b1ss` is overwritten. `binary` masks come from prompts."""
        high = high_b1ss
        if self.mask_size != self.image_size:
            size = (self.mask_size, self.mask_size)
            high = F.interpolate(high, size, mode="bilinear", align_corners=False, antialias=True)
        mask = high.gt_(0) if binary else high.sigmoid_()
        x = mask.sub_(self.shift)
        for stage in self.stages:
            x = self.activation(stage(x))
        x_bnc = feature_bnc + self.mask_out(as_tokens(x))
        for fuse in self.fusers:
            x_bnc = fuse(x_bnc, self.grid)
        memory = self.out(x_bnc)
        if self.occlusion is not None:
            memory = torch.where((object_logit_b > 0)[:, None, None], memory, memory + self.occlusion)
        return self.stored(memory)

    def stored(self, memory_bnm: torch.Tensor) -> torch.Tensor:
        """The memory as the bank keeps it: all image tokens, in bf16 as in transformers."""
        return memory_bnm.to(torch.bfloat16)

    def upscale(self, logits_bhw: torch.Tensor) -> torch.Tensor:
        """Logits of the image's size."""
        size = (self.image_size, self.image_size)
        return F.interpolate(logits_bhw[:, None], size, mode="bilinear", align_corners=False)


class _Downsampling:
    """A convolution and a layer norm over its channels.

    On a CPU, layer_norm over few channels takes longer than the convolutions around it. The mean goes into the
    convolution's weights, and what is left is done channel by channel, 7 times as fast for 4 channels and twice for 16.
    """

    def __init__(self, layer: Any, weights: Weights, *, scale: float) -> None:
        conv = layer.conv
        self.stride, self.padding = conv.stride, conv.padding
        self.norm = weights.norm(layer.layer_norm)
        weight, bias = conv.weight.detach() * scale, conv.bias.detach()
        self.by_channel = conv.out_channels <= 16 and weight.device.type == "cpu"
        if self.by_channel:
            weight, bias = (w.double() - w.double().mean(0) for w in (weight, bias))
        layout = torch.contiguous_format if self.by_channel else torch.channels_last
        self.weight = weights.cast(weight.float()).contiguous(memory_format=layout)
        self.bias = weights.cast(bias.float())

    def __call__(self, x_bchw: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x_bchw, self.weight, self.bias, self.stride, self.padding)
        if not self.by_channel:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scale = x.float().square().mean(1, keepdim=True).add_(self.norm.eps).rsqrt_()
        return torch.addcmul(self.norm.bias[:, None, None], x * scale, self.norm.weight[:, None, None])


class _Fuser:
    """A ConvNeXt block; its layer scale goes into the last product."""

    def __init__(self, layer: Any, weights: Weights) -> None:
        conv = layer.depthwise_conv
        self.weight = weights.cast(conv.weight).contiguous(memory_format=torch.channels_last)
        self.bias = weights.cast(conv.bias)
        self.padding, self.groups = conv.padding, conv.groups
        self.norm = weights.norm(layer.layer_norm)
        self.inner = weights.dense(layer.pointwise_conv1, then=layer.activation)
        scale = layer.scale.detach()
        last = layer.pointwise_conv2
        self.outer = weights.store(scale[:, None] * last.weight.detach(), scale * last.bias.detach())

    def __call__(self, x_bnc: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        x_bchw = x_bnc.unflatten(1, grid).permute(0, 3, 1, 2)
        x = F.conv2d(x_bchw, self.weight, self.bias, padding=self.padding, groups=self.groups)
        x = self.norm(x.permute(0, 2, 3, 1).flatten(1, 2))
        return x_bnc + self.outer(self.inner(x))
