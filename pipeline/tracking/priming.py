"""The prompted frames of every object, run before anything is tracked."""

from collections.abc import Mapping, Sequence

import torch

from pipeline.errors import PromptError
from pipeline.tracking.prompts import FrameSource, TrackedObject, to_model
from pipeline.tracking.state import State
from pipeline.tracking.work import Model, Work

FRAMES_AT_ONCE = 4
"""How many prompted frames are decoded and held together."""


def prime(
    state: State,
    objects: Sequence[TrackedObject],
    source: FrameSource,
    model: Model,
    lane: object,
    *,
    starts_alone: bool,
) -> None:
    """In frame order, each without memory, into the objects' banks; their rows are kept until they are yielded.

    `starts_alone`: of each object the earliest prompted frame alone has a row.
    """
    if last := max((t for o in objects for t in o.corrections), default=None):
        _at(source, [last])  # before hours of tracking, not after
    frames = sorted({t for o in objects for t in o.prompts})
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        chunk = frames[first : first + FRAMES_AT_ONCE]
        pixels = _at(source, chunk)
        work = Work(encode=[pixels[t] for t in chunk])
        asked = [(t, i) for t in chunk for i, o in enumerate(objects) if t in o.prompts]
        for t, i in asked:
            prompt = to_model(objects[i].prompts[t], source, target=model.image_size)
            work.prompts.append((chunk.index(t), prompt))
        results = model.submit(lane, work).prompts
        assert results is not None
        for n, (t, i) in enumerate(asked):
            row = results.rows(n, n + 1)
            state.banks[i].add_prompted(t, row.memory[0], row.pointer[0])
            if not starts_alone or t == objects[i].start:
                state.prompted[t, i] = (row.logits.clone(), row.object_logit.clone(), row.predicted_iou.clone())
    state.primed = True


def _at(source: FrameSource, frames: Sequence[int]) -> Mapping[int, torch.Tensor]:
    pixels = source.at(frames)
    for t in frames:
        if t not in pixels:
            raise PromptError(f"A prompt is on frame {t}, but the video ends before it.")
    return pixels
