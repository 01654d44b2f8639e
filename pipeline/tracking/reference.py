"""The reference engine: each step of each object is a call of transformers' own video model in a session of its own.

It is slow, and right by definition: the network, the choice of memories and the treatment of prompts are those of the
installed transformers. Each step fills a new session with what the object's memory bank holds, which is all that
transformers reads of an object's past. So memory is bounded, and lanes, checkpoints and directions are those of the
fast engine. It serves every family whose model has the interface of transformers' SAM2 video model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.tracking import EngineKind
from pipeline.tracking.bank import BankLimits, MemoryContext
from pipeline.tracking.objects import FramePrompt
from pipeline.tracking.results import Results
from pipeline.tracking.stepping import Correction, LoadedModel

Features = dict[str, Any]
"""What transformers caches of an encoded frame."""

_UNLIMITED = 1 << 40
"""Length of a video that has at least as many frames as the model's limit of pointers; no more of it is read."""
_OBJECT = 0
_FRAME_OF_PROMPT = 0
"""A prompted frame runs without memory, so that its index has no meaning."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferencePrompt:
    """A prompt as the user gave it; transformers' processor converts it."""

    prompt: FramePrompt
    height: int
    width: int


class ReferenceStepper:
    """Runs frames, prompts, tracks and corrections one by one. The methods must be called inside `inference`."""

    engine: EngineKind = "reference"
    frames_at_once = 1

    def __init__(self, loaded: LoadedModel, *, dtype: torch.dtype) -> None:
        self._model = loaded.model
        self._processor = loaded.processor
        self._device = loaded.device
        self._dtype = dtype
        config = self._model.config
        self.max_pointers = int(config.max_object_pointers_in_encoder)
        self.limits = BankLimits(
            memories=config.num_maskmem - 1, pointers=self.max_pointers - 1, conditioning=config.max_cond_frame_num
        )
        self._memory_position: torch.Tensor | None = None
        """Position encoding of a memory, which is the same for all; known after the first step."""
        self._memory_shape = torch.Size()
        """The shape that the model gives a memory of N tokens: (N, 1, M) for SAM2, (1, N, M) for EdgeTAM."""

    def prepare(self, prompt: FramePrompt, *, height: int, width: int) -> ReferencePrompt:
        """The prompt of a displayed frame of this size."""
        return ReferencePrompt(prompt=prompt, height=height, width=width)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inference mode and, for bfloat16, autocast."""
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._dtype == torch.bfloat16),
        ):
            yield

    def encode(self, pixels: Sequence[torch.Tensor]) -> list[Features]:
        """The features of frames, uint8 (S, S, 3) each."""
        return [self._encode(frame_ssc) for frame_ssc in pixels]

    def prompt(self, items: Sequence[tuple[Features, ReferencePrompt]]) -> Results:
        """The results of prompts, each without memory."""
        return Results.cat([self._prompt(features, prompt) for features, prompt in items])

    def track(self, items: Sequence[tuple[Features, MemoryContext]]) -> Results:
        """The results of tracks."""
        return Results.cat([self._track(features, context) for features, context in items])

    def correct(self, items: Sequence[tuple[Features, Correction]]) -> Results:
        """The results of corrections."""
        return Results.cat([self._correct(features, correction) for features, correction in items])

    def _encode(self, frame_ssc: torch.Tensor) -> Features:
        video = self._processor.video_processor
        session = self._new_session()
        values = video.rescale_and_normalize(
            frame_ssc.to(self._device).permute(2, 0, 1)[None].contiguous(),
            video.do_rescale,
            video.rescale_factor,
            video.do_normalize,
            tuple(video.image_mean),
            tuple(video.image_std),
        )
        session.add_new_frame(values[0].float(), 0)
        self._model._prepare_vision_features(session, 0, 1)
        features: Features = session.cache.get_vision_features(0)
        return features

    def _prompt(self, features: Features, prompt: ReferencePrompt) -> Results:
        session = self._new_session()
        session.cache.cache_vision_features(_FRAME_OF_PROMPT, features)
        session.processed_frames = _Frames(1)
        self._add_inputs(session, prompt, _FRAME_OF_PROMPT)
        return self._run(session, _FRAME_OF_PROMPT, reverse=False, scored=prompt.prompt.mask is None)

    def _track(self, features: Features, context: MemoryContext) -> Results:
        session = self._session_of(features, context)
        return self._run(session, context.frame, reverse=context.reverse)

    def _correct(self, features: Features, correction: Correction) -> Results:
        """Meta's interactive step: transformers runs the frame again, given the clamped logits of its mask."""
        context = correction.context
        session = self._session_of(features, context)
        session.frames_tracked_per_obj[_OBJECT][context.frame] = {"reverse": context.reverse}
        self._add_inputs(session, correction.prompt, context.frame)
        before = correction.logits.clamp(-32.0, 32.0)[None, None]
        return self._run(session, context.frame, reverse=context.reverse, before=before)

    def _new_session(self) -> Any:
        session = self._processor.init_video_session(inference_device=self._device)
        session.obj_id_to_idx(_OBJECT)
        return session

    def _session_of(self, features: Features, context: MemoryContext) -> Any:
        """A session in the state in which transformers' own would be before it tracks the context's frame."""
        session = self._new_session()
        session.cache.cache_vision_features(context.frame, features)
        limited = context.max_pointers < self.max_pointers
        session.processed_frames = _Frames(context.max_pointers if limited else _UNLIMITED)
        outputs = session.output_dict_per_obj[_OBJECT]
        bank = context.bank
        for t, (memory, pointer) in context.prompted.items():
            outputs["cond_frame_outputs"][t] = {**self._memory_entry(memory), **_pointer_entry(pointer)}
        tracked = outputs["non_cond_frame_outputs"]
        for t, pointer in bank.pointers.items():
            tracked[t] = _pointer_entry(pointer)
        for t, memory in bank.memories.items():
            tracked.setdefault(t, {}).update(self._memory_entry(memory))
        return session

    def _add_inputs(self, session: Any, given: ReferencePrompt, frame: int) -> None:
        session.video_height, session.video_width = given.height, given.width
        prompt = given.prompt
        self._processor.add_inputs_to_inference_session(
            session,
            frame_idx=frame,
            obj_ids=[_OBJECT],
            input_points=None if prompt.points is None else [[prompt.points.tolist()]],
            input_labels=None if prompt.labels is None else [[prompt.labels.tolist()]],
            input_boxes=None if prompt.box is None else [[prompt.box.tolist()]],
            input_masks=None if prompt.mask is None else [prompt.mask],
        )

    def _run(
        self, session: Any, frame: int, *, reverse: bool, scored: bool = True, before: torch.Tensor | None = None
    ) -> Results:
        """One call of the model. `scored` is false for a mask prompt, which has no scores of its own."""
        with _decoder_scores(self._model) as scores, _given_logits(self._model, before):
            out = self._model(session, frame_idx=frame, reverse=reverse)
        outputs = session.output_dict_per_obj[_OBJECT]
        entry = outputs["cond_frame_outputs"].get(frame) or outputs["non_cond_frame_outputs"][frame]
        self._memory_position, self._memory_shape = entry["maskmem_pos_enc"], entry["maskmem_features"].shape
        unknown = torch.full((1,), torch.nan, device=self._device)
        return Results(
            logits=out.pred_masks[:, 0].float(),
            object_logit=out.object_score_logits.flatten().float() if scored else unknown,
            predicted_iou=scores[-1].flatten().max()[None].float() if scored else unknown,
            memory=entry["maskmem_features"].flatten(0, 1)[None],
            pointer=entry["object_pointer"].flatten()[None].float(),
        )

    def _memory_entry(self, memory_nm: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._memory_position is None:  # the banks are those of a checkpoint
            self._learn_memory_position()
        assert self._memory_position is not None
        return {"maskmem_features": memory_nm.view(self._memory_shape), "maskmem_pos_enc": self._memory_position}

    def _learn_memory_position(self) -> None:
        """Run a prompt on an empty frame: transformers makes the encoding together with a memory."""
        size = self._model.config.image_size
        blank = torch.zeros(size, size, 3, dtype=torch.uint8)
        mask = torch.ones(size, size, dtype=torch.bool).numpy()
        prompt = self.prepare(FramePrompt(mask=mask), height=size, width=size)
        self._prompt(self._encode(blank), prompt)


class _Frames(dict[int, torch.Tensor]):
    """The frames of a session: none, because their features are cached, and their number."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def _pointer_entry(pointer_c: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"object_pointer": pointer_c[None, None]}


@contextmanager
def _decoder_scores(model: Any) -> Iterator[list[torch.Tensor]]:
    """The IoU scores that the decoder computes inside; transformers' output does not have them."""
    scores: list[torch.Tensor] = []
    forward = model._single_frame_forward

    def remember(*args: Any, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        scores.append(out.iou_scores)
        return out

    model._single_frame_forward = remember
    try:
        yield scores
    finally:
        del model._single_frame_forward


@contextmanager
def _given_logits(model: Any, before: torch.Tensor | None) -> Iterator[None]:
    """Give the model the logits that a correction starts from; transformers' forward has no argument for them."""
    if before is None:
        yield
        return
    run = model._run_single_frame_inference
    model._run_single_frame_inference = lambda **kwargs: run(**kwargs, prev_sam_mask_logits=before)
    try:
        yield
    finally:
        del model._run_single_frame_inference
