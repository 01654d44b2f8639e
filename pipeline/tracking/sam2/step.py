"""One step of SAM2 over a batch: frames to features, prompts and remembered frames to masks and new memories."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F

from pipeline.tracking import EngineKind
from pipeline.tracking.bank import BankLimits, MemoryContext
from pipeline.tracking.batching import BatchSize, groups_of, inverse
from pipeline.tracking.objects import FramePrompt
from pipeline.tracking.requirements import Requirement, check
from pipeline.tracking.results import Results
from pipeline.tracking.sam2.attention import MemoryAttention
from pipeline.tracking.sam2.batch import FrameBatch, memory_shape
from pipeline.tracking.sam2.decoder import Decoded, Decoder
from pipeline.tracking.sam2.encoder import Encoder, Features, FrameEncoder
from pipeline.tracking.sam2.kernels import SETTING, attend_memories
from pipeline.tracking.sam2.memory import MemoryEncoder
from pipeline.tracking.sam2.prompts import ModelPrompt, to_model
from pipeline.tracking.sam2.requirements import SAM2, processor_requirements
from pipeline.tracking.sam2.weights import Weights
from pipeline.tracking.stepping import Correction
from pipeline.tracking.transfer import FrameUpload, to_device

if TYPE_CHECKING:
    from pipeline.tracking.sam2.model import Sam2

_CPU_TOKENS = 1024
"""Image tokens in one batch on a CPU: more do not fit into the cache; with fewer, the overhead per call dominates."""
_GPU_TOKENS = 32 * 4096
_FRAMES_AHEAD = 8
"""Maximum number of frames of one video that are encoded together. More use memory and are not faster."""


class Sam2Stepper:
    """Runs batches of frames, prompts, tracks and corrections. The methods must be called inside `inference`.

    Another family's stepper is a subclass with other parts.
    """

    requirements: ClassVar[Sequence[Requirement]] = SAM2
    encoder: ClassVar[type[FrameEncoder]] = Encoder
    memory_attention: ClassVar[type[MemoryAttention]] = MemoryAttention
    memory_encoder: ClassVar[type[MemoryEncoder]] = MemoryEncoder

    engine: EngineKind = "fast"

    def __init__(self, sam2: "Sam2", *, dtype: torch.dtype) -> None:
        """
        Raises:
            ModelError: A setting of the checkpoint has a value that this stepper does not serve.
        """
        model: Any = sam2.model
        check(model.config, self.requirements, name=sam2.name)
        required = processor_requirements(sam2.image_size)
        check(sam2.processor, required, name=sam2.name, file="processor_config.json")
        config, device = model.config, sam2.device
        self.device = device
        attend_memories.force(os.environ.get(SETTING) or None)
        self.limits = BankLimits(
            memories=config.num_maskmem - 1,
            pointers=config.max_object_pointers_in_encoder - 1,
            conditioning=config.max_cond_frame_num,
        )
        self.max_pointers = int(config.max_object_pointers_in_encoder)
        self._dtype = dtype
        self._model = model
        weights = Weights(dtype)
        with torch.inference_mode():  # without autocast: constants are computed in fp32 and then stored
            self._encoder = self.encoder(model, weights, sam2.pixel_values().to(device))
            self._attention = self.memory_attention(model, weights, device)
            self._decoder = Decoder(model, weights, device)
            self._memory = self.memory_encoder(model, weights)
        with self.inference():
            self._without_prompt = self._decoder.start_without_prompt()
        self._upload = FrameUpload(device)
        self._no_memory = model.no_memory_embedding.detach()[0]
        height, width = model.backbone_feature_sizes[-1]
        tokens = _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS
        self.tracks_at_once = BatchSize("tracks_at_once", max(1, tokens // (height * width)))
        self._frames_at_once = BatchSize("frames_at_once", min(_FRAMES_AHEAD, max(1, tokens // (height * width) // 2)))

    @property
    def frames_at_once(self) -> int:
        """The number of frames that are encoded in one batch."""
        return self._frames_at_once.now

    def prepare(self, prompt: FramePrompt, *, height: int, width: int) -> ModelPrompt:
        """A prompt of a displayed frame of this size, in the model's coordinates."""
        return to_model(prompt, height=height, width=width, target=self._model.config.image_size)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inference mode and, for bfloat16, autocast."""
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16),
        ):
            yield

    def encode(self, pixels: Sequence[torch.Tensor]) -> list[Features]:
        """The features of frames, uint8 (S, S, 3) each."""

        def encode_batch(batch: Sequence[torch.Tensor]) -> list[Features]:
            features = self._encoder(self._upload(batch))
            return [features.frame(n) for n in range(len(batch))]

        return [f for batch in self._frames_at_once.run(pixels, encode_batch) for f in batch]

    def track(self, items: Sequence[tuple[Features, MemoryContext]]) -> Results:
        """The results of tracks, in batches of the same memory shape."""
        order = sorted(range(len(items)), key=lambda n: memory_shape(items[n][1]))
        batches = self.tracks_at_once.run([items[n] for n in order], self.track_batch)
        return Results.cat(batches).ordered(inverse(order))

    def prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results:
        """The results of prompts, in batches of the same signature, each prompt without memory."""
        order = sorted(range(len(items)), key=lambda n: items[n][1].signature)
        batches: list[Results] = []
        for same in groups_of([items[n] for n in order], lambda item: item[1].signature):
            batches += self.tracks_at_once.run(same, self._prompt)
        return Results.cat(batches).ordered(inverse(order))

    def correct(self, items: Sequence[tuple[Features, Correction]]) -> Results:
        """The results of corrections. They are rare, so they run one by one."""
        return Results.cat([self._correct(features, correction) for features, correction in items])

    def track_batch(self, items: Sequence[tuple[Features, MemoryContext]]) -> Results:
        """The results of tracks in one batch; those of the same memory shape must be neighbours."""
        frames = FrameBatch([features for features, _ in items])
        x, queries = frames.spread(*self._attention.start(frames.top_fnc))
        contexts = groups_of([context for _, context in items], memory_shape)
        image = self._attention(x, queries, contexts) + self._decoder.no_mask_c
        decoded = self._decoder(
            image,
            frames.s1,
            frames.s0,
            started=self._without_prompt,
            multimask=self._model._use_multimask(False, None),
        )
        return self._remember(frames, decoded, self._memory.upscale(decoded.logits_bhw), binary=False)

    def _prompt(self, items: Sequence[tuple[Features, ModelPrompt]]) -> Results:
        """Prompts of one signature, each without memory."""
        frames = FrameBatch([features for features, _ in items])
        (top,) = frames.spread(frames.top_fnc)
        prompts = [prompt for _, prompt in items]
        if prompts[0].mask is not None:
            return self._prompt_masks(frames, top, torch.stack([p.mask for p in prompts if p.mask is not None]))
        points = to_device(torch.stack([p.points for p in prompts if p.points is not None]), self.device)
        labels = to_device(torch.stack([p.labels for p in prompts if p.labels is not None]), self.device)
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
        """Meta's interactive step: the track's memory, the clamped logits of its mask, and the new points."""
        frames = FrameBatch([features])
        x, queries = frames.spread(*self._attention.start(frames.top_fnc))
        assert correction.prompt.points is not None
        assert correction.prompt.labels is not None
        points = to_device(correction.prompt.points[None, None], self.device)
        labels = to_device(correction.prompt.labels[None, None], self.device)
        before = correction.logits.clamp(-32.0, 32.0)[None, None]
        sparse, dense = self._model.prompt_encoder(points, labels, None, before)
        decoded = self._decoder(
            self._attention(x, queries, [[correction.context]]) + dense.flatten(2).transpose(1, 2),
            frames.s1,
            frames.s0,
            started=self._decoder.start(sparse[:, 0]),
            multimask=self._model._use_multimask(False, {"point_labels": labels}),
        )
        return self._remember(frames, decoded, self._memory.upscale(decoded.logits_bhw), binary=True)

    def _prompt_masks(self, frames: FrameBatch, top_bnc: torch.Tensor, mask_b1ss: torch.Tensor) -> Results:
        """A mask prompt is its own output; the decoder gives the object pointer only. The values are transformers'."""
        mask = to_device(mask_b1ss, self.device)
        high = mask * 20.0 - 10.0
        low = F.interpolate(
            high, self._model.prompt_encoder.mask_input_size, align_corners=False, mode="bilinear", antialias=True
        )
        downsampled = self._model.mask_downsample(mask)
        if downsampled.shape[-2:] != low.shape[-2:]:
            size = low.shape[-2:]
            downsampled = F.interpolate(downsampled.float(), size, align_corners=False, mode="bilinear", antialias=True)
        dense = self._model.prompt_encoder.mask_embed(downsampled)
        decoded = self._decoder(
            top_bnc + dense.flatten(2).transpose(1, 2),
            frames.s1,
            frames.s0,
            started=self._without_prompt,
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

    def _remember(self, frames: FrameBatch, decoded: Decoded, high_b1ss: torch.Tensor, *, binary: bool) -> Results:
        (feature,) = frames.spread(self._memory.project(frames.top_fnc))
        memory = self._memory(feature, high_b1ss, decoded.object_logit_b, binary=binary)
        return Results(
            logits=decoded.logits_bhw,
            object_logit=decoded.object_logit_b,
            predicted_iou=decoded.predicted_iou_b,
            memory=memory,
            pointer=decoded.pointer_bc,
        )
