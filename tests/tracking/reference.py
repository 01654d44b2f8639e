"""What the engine is held against: transformers' own loop, each object alone in a session of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.tracking import Direction, FramePrompt, TrackedObject
from pipeline.tracking.stepping import LoadedModel


@dataclass(frozen=True)
class Row:
    mask: NDArray[np.bool_]
    logits: torch.Tensor
    object_logit: float
    predicted_iou: float


def rows(
    sam2: LoadedModel, video: Sequence[NDArray[np.uint8]], objects: Sequence[TrackedObject], direction: Direction
) -> dict[tuple[int, int], Row]:
    """By object id and frame index."""
    found: dict[tuple[int, int], Row] = {}
    for tracked in objects:
        for frame, row in _one_object(sam2, video, tracked, direction):
            found[tracked.object_id, frame] = row
    return found


def _one_object(
    sam2: LoadedModel, video: Sequence[NDArray[np.uint8]], tracked: TrackedObject, direction: Direction
) -> Iterator[tuple[int, Row]]:
    model: Any = sam2.model
    processor: Any = sam2.processor
    session = processor.init_video_session(video=list(video), inference_device=sam2.device)
    scores: dict[int, float] = {}
    single_frame_forward = model._single_frame_forward

    def remember_iou(*args: Any, **kwargs: Any) -> Any:
        out = single_frame_forward(*args, **kwargs)
        scores["last"] = float(out.iou_scores.max())
        return out

    model._single_frame_forward = remember_iou  # transformers computes the IoU and does not hand it out
    try:
        prompted = {}
        for frame in sorted(tracked.prompts):
            prompt = tracked.prompts[frame]
            _add(processor, session, tracked, frame, prompt)
            out = model(session, frame_idx=frame)
            prompted[frame] = (out, float("nan") if prompt.mask is not None else scores["last"])
        start = tracked.start
        passes = {"forward": [False], "backward": [True], "both": [False, True]}[direction]
        done = set()
        if direction == "backward" and start == 0:
            yield 0, _row(processor, session, *prompted[0], tracked.prompts[0].mask is not None)
        for reverse in passes:
            last = tracked.first if reverse else None if tracked.end is None else tracked.end - 1
            steps = None if last is None else abs(last - start)
            for out in model.propagate_in_video_iterator(
                session, start_frame_idx=start, max_frame_num_to_track=steps, reverse=reverse
            ):
                frame = out.frame_idx
                if frame in tracked.corrections:
                    out = _correct(model, processor, session, tracked, out, reverse)
                if frame in done:
                    continue
                done.add(frame)
                iou = prompted[frame][1] if frame in tracked.prompts else scores["last"]
                by_mask = frame in tracked.prompts and tracked.prompts[frame].mask is not None
                yield frame, _row(processor, session, out, iou, by_mask)
    finally:
        del model._single_frame_forward


def _correct(model: Any, processor: Any, session: Any, tracked: TrackedObject, out: Any, reverse: bool) -> Any:
    """The frame just tracked once more, with the correction and, as Meta's predictor does, its own logits."""
    run = model._run_single_frame_inference
    before = out.pred_masks.clamp(-32.0, 32.0)
    _add(processor, session, tracked, out.frame_idx, tracked.corrections[out.frame_idx])
    model._run_single_frame_inference = lambda **kwargs: run(**kwargs, prev_sam_mask_logits=before)
    try:
        return model(session, frame_idx=out.frame_idx, reverse=reverse)
    finally:
        del model._run_single_frame_inference


def _add(processor: Any, session: Any, tracked: TrackedObject, frame: int, prompt: FramePrompt) -> None:
    processor.add_inputs_to_inference_session(
        session,
        frame_idx=frame,
        obj_ids=[tracked.object_id],
        input_points=None if prompt.points is None else [[prompt.points.tolist()]],
        input_labels=None if prompt.labels is None else [[prompt.labels.tolist()]],
        input_boxes=None if prompt.box is None else [[prompt.box.tolist()]],
        input_masks=None if prompt.mask is None else [prompt.mask],
    )


def _row(processor: Any, session: Any, out: Any, iou: float, by_mask: bool) -> Row:
    (mask,) = processor.post_process_masks(
        [out.pred_masks], original_sizes=[[session.video_height, session.video_width]]
    )
    logit = float("nan") if by_mask else float(out.object_score_logits.flatten()[0])
    return Row(mask=mask[0, 0].cpu().numpy(), logits=out.pred_masks[0, 0].cpu(), object_logit=logit, predicted_iou=iou)
