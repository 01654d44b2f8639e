"""One step of the model over a batch: frames to features, prompts and recalled memories to masks and new memories."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from pipeline.tracking.bank import BankLimits, Recall
from pipeline.tracking.model import Sam2
from pipeline.tracking.prompts import ModelPrompt
from pipeline.tracking.results import Results
from pipeline.tracking.sam2.attention import MemoryAttention
from pipeline.tracking.sam2.decoder import Decoded, Decoder
from pipeline.tracking.sam2.encoder import Encoder, Features
from pipeline.tracking.sam2.memory import MemoryEncoder
from pipeline.tracking.sam2.weights import Weights
from pipeline.tracking.work import Correction

logger = logging.getLogger(__name__)

_CPU_TOKENS = 1024
"""CPU: more image tokens in one batch fall out of the cache and make a step slower; fewer leave it to launches."""
_GPU_TOKENS = 32 * 4096
_FRAMES_AHEAD = 8
"""More frames of one video at once only hold memory."""

Item = TypeVar("Item")
Out = TypeVar("Out")


class Stepper:
    def __init__(self, sam2: Sam2, *, dtype: torch.dtype) -> None:
        model: Any = sam2.model
        config = model.config
        self.device = sam2.device
        self.limits = BankLimits(
            memories=config.num_maskmem - 1,
            pointers=config.max_object_pointers_in_encoder - 1,
            conditioning=config.max_cond_frame_num,
        )
        self.max_pointers = int(config.max_object_pointers_in_encoder)
        self._dtype = dtype
        self._model = model
        weights = Weights(dtype)
        with self.inference():
            self._encoder = Encoder(model, weights, sam2.device)
            self._attention = MemoryAttention(model, weights, sam2.device)
            self._decoder = Decoder(model, weights, sam2.device)
            self._memory = MemoryEncoder(model, weights)
        self._no_memory = model.no_memory_embedding.detach()[0]
        height, width = model.backbone_feature_sizes[-1]
        tokens = _CPU_TOKENS if sam2.device.type == "cpu" else _GPU_TOKENS
        self.tracks_at_once = max(1, tokens // (height * width))
        self.frames_at_once = min(_FRAMES_AHEAD, max(1, tokens // (height * width) // 2))

    @contextmanager
    def inference(self) -> Iterator[None]:
        """What the rest must run in."""
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16),
        ):
            yield

    def encode(self, pixels: Sequence[torch.Tensor]) -> list[Features]:
        def run(part: Sequence[torch.Tensor]) -> list[Features]:
            batch = self._encoder(torch.stack(list(part)))
            return [batch.frame(n) for n in range(len(part))]

        return [f for part in self._in_parts("frames_at_once", pixels, run) for f in part]

    def track(self, items: Sequence[tuple[Features, Recall]]) -> Results:
        order = sorted(range(len(items)), key=lambda n: _shape(items[n][1]))
        parts = self._in_parts("tracks_at_once", [items[n] for n in order], self._track)
        return Results.cat(parts).ordered(_inverse(order))

    def prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results:
        order = sorted(range(len(items)), key=lambda n: items[n][1].signature)
        parts: list[Results] = []
        for same in _runs([items[n] for n in order], lambda item: item[1].signature):
            parts += self._in_parts("tracks_at_once", same, self._prompt)
        return Results.cat(parts).ordered(_inverse(order))

    def correct(self, items: Sequence[tuple[Features, Correction]]) -> Results:
        """One by one: they are few."""
        return Results.cat([self._correct(features, correction) for features, correction in items])

    def _in_parts(self, limit: str, items: Sequence[Item], run: Callable[[Sequence[Item]], Out]) -> list[Out]:
        """Batches of at most `limit` items; when memory runs out the limit is halved for good."""
        done: list[Out] = []
        first = 0
        while first < len(items):
            part = items[first : first + getattr(self, limit)]
            try:
                done.append(run(part))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                setattr(self, limit, len(part) // 2)
                logger.warning("Out of memory with %d in a batch: %s is now %d.", len(part), limit, len(part) // 2)
            else:
                first += len(part)
        return done

    def _track(self, items: Sequence[tuple[Features, Recall]]) -> Results:
        frames = _Frames([features for features, _ in items])
        x, queries = frames.spread(*self._attention.start(frames.top_fnc))
        recalls = [recall for _, recall in items]
        image = self._attention(x, queries, _runs(recalls, _shape)) + self._decoder.no_mask_c
        decoded = self._decoder(
            image,
            frames.s1,
            frames.s0,
            started=self._decoder.without_prompt,
            multimask=self._model._use_multimask(False, None),
        )
        return self._remember(frames, decoded, self._memory.upscale(decoded.logits_bhw), binary=False)

    def _prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results:
        """Prompts of one signature, each without memory."""
        frames = _Frames([features for features, _ in items])
        (top,) = frames.spread(frames.top_fnc)
        prompts = [prompt for _, prompt in items]
        if prompts[0].mask is not None:
            return self._prompt_masks(frames, top, torch.stack([p.mask for p in prompts if p.mask is not None]))
        points = torch.stack([p.points for p in prompts if p.points is not None]).to(self.device)
        labels = torch.stack([p.labels for p in prompts if p.labels is not None]).to(self.device)
        sparse, _ = self._model.prompt_encoder(points[:, None], labels[:, None], None, None)
        decoded = self._decoder(
            top + (self._no_memory + self._decoder.no_mask_c),
            frames.s1,
            frames.s0,
            started=self._decoder.start(sparse[:, 0]),
            multimask=self._model._use_multimask(True, {"point_labels": labels[:, None]}),
        )
        return self._remember(frames, decoded, self._memory.upscale(decoded.logits_bhw), binary=True)

    def _correct(self, features: Features, correction: Correction) -> Results:
        """Meta's interactive step: the track's memory, its mask's logits there, clamped, and the new points."""
        frames = _Frames([features])
        x, queries = frames.spread(*self._attention.start(frames.top_fnc))
        assert correction.prompt.points is not None
        assert correction.prompt.labels is not None
        points = correction.prompt.points[None, None].to(self.device)
        labels = correction.prompt.labels[None, None].to(self.device)
        before = correction.logits.clamp(-32.0, 32.0)[None, None]
        sparse, dense = self._model.prompt_encoder(points, labels, None, before)
        decoded = self._decoder(
            self._attention(x, queries, [[correction.recall]]) + dense.flatten(2).transpose(1, 2),
            frames.s1,
            frames.s0,
            started=self._decoder.start(sparse[:, 0]),
            multimask=self._model._use_multimask(False, {"point_labels": labels}),
        )
        return self._remember(frames, decoded, self._memory.upscale(decoded.logits_bhw), binary=True)

    def _prompt_masks(self, frames: "_Frames", top_bnc: torch.Tensor, mask_b1ss: torch.Tensor) -> Results:
        """A mask prompt is its own output; the decoder gives the object pointer alone. transformers' values."""
        mask = mask_b1ss.to(self.device)
        high = mask * 20.0 - 10.0
        low = F.interpolate(
            high, self._model.prompt_encoder.mask_input_size, align_corners=False, mode="bilinear", antialias=True
        )
        dense = self._model.prompt_encoder.mask_embed(self._model.mask_downsample(mask))
        decoded = self._decoder(
            top_bnc + dense.flatten(2).transpose(1, 2),
            frames.s1,
            frames.s0,
            started=self._decoder.without_prompt,
            multimask=True,
        )
        present = mask.flatten(1).any(1)
        pointer = torch.where(present[:, None], decoded.pointer_bc, self._decoder.no_pointer)
        shown = Decoded(
            logits_bhw=low[:, 0],
            object_logit_b=present * 20.0 - 10.0,
            predicted_iou_b=decoded.predicted_iou_b,
            pointer_bc=pointer,
        )
        results = self._remember(frames, shown, high, binary=True)
        unknown = torch.full_like(results.object_logit, torch.nan)
        return Results(
            logits=results.logits,
            object_logit=unknown,
            predicted_iou=unknown,
            memory=results.memory,
            pointer=results.pointer,
        )

    def _remember(self, frames: "_Frames", decoded: Decoded, high_b1ss: torch.Tensor, *, binary: bool) -> Results:
        (feature,) = frames.spread(self._memory.project(frames.top_fnc))
        memory = self._memory(feature, high_b1ss, decoded.object_logit_b, binary=binary)
        return Results(
            logits=decoded.logits_bhw,
            object_logit=decoded.object_logit_b,
            predicted_iou=decoded.predicted_iou_b,
            memory=memory,
            pointer=decoded.pointer_bc,
        )


class _Frames:
    """The distinct frames of a batch of tracks, and how their features spread over the tracks."""

    def __init__(self, of_track: Sequence[Features]) -> None:
        distinct = list({id(f): f for f in of_track}.values())
        place = {id(f): n for n, f in enumerate(distinct)}
        self._of_track = [place[id(f)] for f in of_track]
        self._count = len(distinct)
        self.top_fnc = distinct[0].top_fnc if self._count == 1 else torch.cat([f.top_fnc for f in distinct])
        if self._count == 1:  # broadcast over the tracks
            self.s1, self.s0 = distinct[0].s1_fnpc, distinct[0].s0_fnppc
        else:
            self.s1 = torch.cat([f.s1_fnpc for f in of_track])
            self.s0 = torch.cat([f.s0_fnppc for f in of_track])

    def spread(self, *per_frame: torch.Tensor) -> list[torch.Tensor]:
        """Each (F, ...) as (B, ...)."""
        if self._count == 1:
            return [x.expand(len(self._of_track), *x.shape[1:]) for x in per_frame]
        if self._of_track == list(range(self._count)):
            return list(per_frame)
        return [torch.cat([x[f : f + 1] for f in self._of_track]) for x in per_frame]


def _shape(recall: Recall) -> tuple[tuple[int, ...], int]:
    """Recalls of the same shape attend together."""
    return recall.ages, len(recall.pointers)


def _runs(items: Sequence[Item], key: Callable[[Item], Any]) -> list[list[Item]]:
    """Neighbours with the same key together."""
    runs: list[list[Item]] = []
    for n, item in enumerate(items):
        if n and key(item) == key(items[n - 1]):
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _inverse(order: Sequence[int]) -> list[int]:
    inverse = [0] * len(order)
    for n, place in enumerate(order):
        inverse[place] = n
    return inverse
