"""Prompt encoder and mask decoder over a batch of tracks, the chosen mask alone.

Image tokens keep the nested pixel order of `Features` from the transposed convolutions (products here) to the mask, so
that only the finished one-channel mask is reordered. All small networks on output tokens run as one batched product.
"""

import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.errors import ModelError
from pipeline.tracking.sam2.attention import attend
from pipeline.tracking.sam2.weights import Dense, Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    logits_bhw: torch.Tensor
    object_logit_b: torch.Tensor
    predicted_iou_b: torch.Tensor
    pointer_bc: torch.Tensor


class Decoder:
    def __init__(self, model: Any, weights: Weights, device: torch.device) -> None:
        decoder = model.mask_decoder
        self.model = model
        self.dtype = weights.dtype
        self.device = device
        self.grid: tuple[int, int] = tuple(model.backbone_feature_sizes[-1])
        prompts = model.prompt_encoder
        self.position_nc = model.get_image_wide_positional_embeddings()[0].flatten(1).t().contiguous()
        self.output_tokens = torch.cat(
            [decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight]
        )
        self.no_mask_c = weights.cast(prompts.no_mask_embed.weight[0]).clone()
        nowhere = torch.zeros(1, 1, 1, 2, device=device)
        not_a_point = -torch.ones(1, 1, 1, dtype=torch.int32, device=device)
        self.no_points = prompts(nowhere, not_a_point, None, None)[0][0, 0]
        transformer = decoder.transformer
        self.layers = [_TwoWayLayer(layer, weights, self.position_nc) for layer in transformer.layers]
        final = transformer.final_attn_token_to_image
        self.final = _TokensToImage(final, None, weights, self.position_nc)
        self.final_norm = weights.norm(transformer.layer_norm_final_attn)
        self.up1 = _upscale(decoder.upscale_conv1, weights)
        self.up_norm = weights.norm(decoder.upscale_layer_norm)
        self.up2 = _upscale(decoder.upscale_conv2, weights)
        self.activation = decoder.activation
        self.heads = _Heads(decoder, weights)
        self.pointer = [weights.dense(d) for d in _dense_layers(model.object_pointer_proj)]
        self.no_pointer = model.no_object_pointer.detach()
        self.no_object_logit = float(sys.modules[type(model).__module__].NO_OBJ_SCORE)
        self.stability = decoder.dynamic_multimask_via_stability
        self.stability_delta = decoder.dynamic_multimask_stability_delta
        self.stability_threshold = decoder.dynamic_multimask_stability_thresh

    def start_without_prompt(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`start` of a track, which has no prompt; the same for every frame."""
        return self.start(self.no_points[None])

    def start(self, sparse_bpc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, and the queries after what of the first layer does not depend on the image."""
        tokens = torch.cat([self.output_tokens.expand(len(sparse_bpc), -1, -1), sparse_bpc], 1)
        return tokens, self.layers[0].attend_self(tokens, tokens)

    def __call__(
        self,
        image_bnc: torch.Tensor,
        s1_bnpc: torch.Tensor,
        s0_bnppc: torch.Tensor,
        *,
        started: tuple[torch.Tensor, torch.Tensor],
        multimask: bool,
    ) -> Decoded:
        """`image_bnc` includes the dense prompt embedding; `started` is of one track (for all) or of B."""
        batch = len(image_bnc)
        tokens, queries = (t.expand(batch, -1, -1) for t in started)
        for n, layer in enumerate(self.layers):
            if n:
                queries = layer.attend_self(queries, tokens)
            queries, image_bnc = layer(queries, tokens, image_bnc)
        queries = self.final_norm(queries + self.final(queries + tokens, self.final.project(image_bnc)))
        heads = self.heads(queries)
        fine = self.up_norm(self.up1(image_bnc).unflatten(-1, (4, -1)) + s1_bnpc)
        fine = self.activation(self.up2(self.activation(fine)).unflatten(-1, (4, -1)) + s0_bnppc)
        return self._choose(queries, heads, fine.flatten(1, 3), multimask)

    def _choose(self, queries: torch.Tensor, heads: "_HeadsOut", fine_bqc: torch.Tensor, multimask: bool) -> Decoded:
        batch = len(queries)
        iou_best, best = heads.iou_bk[:, 1:].float().max(-1)
        rows = torch.arange(batch, device=self.device)
        best = best + 1
        if multimask:
            logits = self._mask(heads.kernels_kbc[best, rows][:, None], fine_bqc)[:, 0]
            iou, token = iou_best, queries[rows, best + 2]
        else:
            token = queries[:, 2]
            iou = heads.iou_bk[:, 0].float()
            kernels = heads.kernels_kbc[0][:, None]
            if self.stability:
                both = self._mask(torch.cat([kernels, heads.kernels_kbc[best, rows][:, None]], 1), fine_bqc)
                stable = self._is_stable(both[:, 0])
                logits = torch.where(stable[:, None, None], both[:, 0], both[:, 1])
                iou = torch.where(stable, iou, iou_best)
            else:
                logits = self._mask(kernels, fine_bqc)[:, 0]
        present = heads.object_b1 > 0
        pointer = token
        for n, layer in enumerate(self.pointer):
            pointer = layer(pointer) if n == 0 else layer(F.relu(pointer))
        return Decoded(
            logits_bhw=torch.where(present[..., None], logits, self.no_object_logit),
            object_logit_b=heads.object_b1[:, 0].float(),
            predicted_iou_b=iou,
            pointer_bc=torch.where(present, pointer.float(), self.no_pointer),
        )

    def _mask(self, kernels_bkc: torch.Tensor, fine_bqc: torch.Tensor) -> torch.Tensor:
        """(B, K, 4h, 4w) fp32, out of the nested pixel order."""
        batch, masks, _ = kernels_bkc.shape
        height, width = self.grid
        nested = torch.bmm(kernels_bkc, fine_bqc.transpose(1, 2)).float()
        nested = nested.view(batch, masks, height, width, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
        return nested.reshape(batch, masks, 4 * height, 4 * width)

    def _is_stable(self, logits_bhw: torch.Tensor) -> torch.Tensor:
        inner = (logits_bhw > self.stability_delta).flatten(1).sum(-1).float()
        outer = (logits_bhw > -self.stability_delta).flatten(1).sum(-1).float()
        return torch.where(outer > 0, inner / outer, 1.0) >= self.stability_threshold


def _upscale(conv: Any, weights: Weights) -> Dense:
    """A transposed convolution of 2 x 2 with stride 2 as a linear map to four nested pixels."""
    if conv.kernel_size != (2, 2) or conv.stride != (2, 2):
        raise ModelError("The tracking engine needs SAM2's mask decoder: 2 x 2 transposed convolutions of stride 2.")
    weight = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
    return weights.store(weight, conv.bias.detach().repeat(4))


def _dense_layers(network: Any) -> list[Any]:
    return [network.proj_in, *network.layers, network.proj_out]


class _Attention:
    """Projections of one decoder attention, heads in their own dimension, queries scaled."""

    def __init__(self, attention: Any, weights: Weights) -> None:
        self.heads: int = attention.num_attention_heads
        self.out = weights.dense(attention.o_proj)

    def split(self, x_btc: torch.Tensor) -> torch.Tensor:
        return x_btc.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, x_bhtd: torch.Tensor) -> torch.Tensor:
        return self.out(x_bhtd.transpose(1, 2).flatten(2))


class _TokensToImage(_Attention):
    """Tokens attend to the image. Keys and values, and the queries of the way back, come from the image in one product,
    with the projected position as what it adds to."""

    def __init__(self, attention: Any, back: Any, weights: Weights, position_nc: torch.Tensor) -> None:
        super().__init__(attention, weights)
        self.query = weights.dense(attention.q_proj, scale_first=attention.scaling)
        layers = [attention.k_proj, attention.v_proj] + ([back.q_proj] if back is not None else [])
        scales = [1.0, 1.0, back.scaling if back is not None else 1.0]
        placed = [True, False, True]
        parts = [(la.weight.detach() * s, la.bias.detach() * s) for la, s in zip(layers, scales, strict=False)]
        self.weight_ci = weights.cast(torch.cat([w for w, _ in parts]).t())
        offset = [
            b + position_nc @ w.t() if at else b.expand(len(position_nc), -1)
            for (w, b), at in zip(parts, placed, strict=False)
        ]
        self.offset_ni = weights.cast(torch.cat(offset, -1))
        self.widths = [len(b) for _, b in parts]

    def project(self, image_bnc: torch.Tensor) -> list[torch.Tensor]:
        batch = len(image_bnc)
        weight = self.weight_ci.expand(batch, -1, -1)
        projected = torch.baddbmm(self.offset_ni.expand(batch, -1, -1), image_bnc, weight)
        return list(projected.split(self.widths, -1))

    def __call__(self, queries_btc: torch.Tensor, projected: list[torch.Tensor]) -> torch.Tensor:
        k, v = projected[:2]
        return self.join(attend(self.split(self.query(queries_btc)), self.split(k), self.split(v)))


class _TwoWayLayer:
    def __init__(self, layer: Any, weights: Weights, position_nc: torch.Tensor) -> None:
        own = layer.self_attn
        self.own = _Attention(own, weights)
        self.own_qk = weights.dense(own.q_proj, own.k_proj, scale_first=own.scaling)
        self.own_v = weights.dense(own.v_proj)
        self.first = layer.skip_first_layer_pe
        self.to_image = _TokensToImage(
            layer.cross_attn_token_to_image, layer.cross_attn_image_to_token, weights, position_nc
        )
        back = layer.cross_attn_image_to_token
        self.back = _Attention(back, weights)
        self.back_k, self.back_v = weights.dense(back.k_proj), weights.dense(back.v_proj)
        self.mlp = [weights.dense(d) for d in _dense_layers(layer.mlp)]
        self.activation = layer.mlp.activation
        self.norm1, self.norm2, self.norm3, self.norm4 = (
            weights.norm(n) for n in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4)
        )

    def attend_self(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        placed = queries if self.first else queries + tokens
        q, k = self.own_qk(placed).chunk(2, -1)
        out = self.own.join(attend(*(self.own.split(x) for x in (q, k, self.own_v(queries)))))
        return self.norm1(out if self.first else queries + out)

    def __call__(
        self, queries: torch.Tensor, tokens: torch.Tensor, image_bnc: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        projected = self.to_image.project(image_bnc)
        queries = self.norm2(queries + self.to_image(queries + tokens, projected))
        hidden = self.mlp[0](queries)
        for dense in self.mlp[1:]:
            hidden = dense(self.activation(hidden))
        queries = self.norm3(queries + hidden)
        k, v = self.back_k(queries + tokens), self.back_v(queries)
        out = attend(*(self.back.split(x) for x in (projected[2], k, v)))
        return queries, self.norm4(image_bnc + self.back.join(out))


@dataclass(frozen=True, kw_only=True, eq=False)
class _HeadsOut:
    object_b1: torch.Tensor
    iou_bk: torch.Tensor
    kernels_kbc: torch.Tensor


class _Heads:
    """The object score's, the IoU's and each mask's network, padded to one width: zeros change nothing."""

    def __init__(self, decoder: Any, weights: Weights) -> None:
        networks = [decoder.pred_obj_score_head, decoder.iou_prediction_head, *decoder.output_hypernetworks_mlps]
        layers = [_dense_layers(network) for network in networks]
        if any(len(own) != 3 for own in layers) or decoder.pred_obj_score_head.sigmoid_output:
            raise ModelError("The tracking engine needs SAM2's mask decoder: output networks of three layers.")
        self.iou_sigmoid = decoder.iou_prediction_head.sigmoid_output
        self.masks = decoder.num_mask_tokens
        self.kernel: int = decoder.hidden_size // 8
        stages = [[own[n] for own in layers] for n in range(3)]
        self.weights = [weights.cast(_padded([d.weight.detach().t() for d in stage])) for stage in stages]
        self.biases = [weights.cast(_padded([d.bias.detach()[None] for d in stage])) for stage in stages]

    def __call__(self, queries_btc: torch.Tensor) -> _HeadsOut:
        x = queries_btc[:, : len(self.weights[0])].transpose(0, 1)
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.relu(x) if n else x, weight)
        iou = x[1, :, : self.masks]
        return _HeadsOut(
            object_b1=x[0, :, :1],
            iou_bk=iou.sigmoid() if self.iou_sigmoid else iou,
            kernels_kbc=x[2:, :, : self.kernel],
        )


def _padded(matrices: list[torch.Tensor]) -> torch.Tensor:
    rows, columns = (max(m.shape[d] for m in matrices) for d in (0, 1))
    return torch.stack([F.pad(m, (0, columns - m.shape[1], 0, rows - m.shape[0])) for m in matrices])
