"""The prompted frames of every object, run before anything is tracked."""

from collections.abc import Mapping, Sequence

import torch

from pipeline.errors import PromptError
from pipeline.tracking.objects import FrameSource, TrackedObject
from pipeline.tracking.state import Rows, State
from pipeline.tracking.stepping import SteppedModel, StepRequest

FRAMES_AT_ONCE = 4
"""Number of prompted frames that are decoded and held together."""


def prime(
    state: State,
    objects: Sequence[TrackedObject],
    source: FrameSource,
    model: SteppedModel,
    lane: object,
    *,
    earliest_only: bool,
    begun: int = 0,
) -> None:
    """Run the prompts, without memory, into the objects' banks, and keep their rows in the state.

    Objects that begin on the same frame share batches, and others do not: their results do not depend on objects that
    begin later, to the last bit, as `labels/changes.py` needs it.

    Args:
        state: its banks and rows are filled.
        objects: in the order of the banks.
        source: the video.
        model: the engine.
        lane: the video's lane of it.
        earliest_only: keep the row of each object's earliest prompted frame alone.
        begun: objects that begin before this frame are left out, because their banks are filled.

    Raises:
        PromptError: The video ends before a prompt or a correction.
    """
    if last := max((t for o in objects for t in o.corrections), default=None):
        read_prompted(source, [last])  # fails before hours of tracking, not after them
    for start in sorted({o.start for o in objects if o.start >= begun}):
        together = {i: o for i, o in enumerate(objects) if o.start == start}
        frames = sorted({t for o in together.values() for t in o.prompts})
        for first in range(0, len(frames), FRAMES_AT_ONCE):
            chunk = frames[first : first + FRAMES_AT_ONCE]
            pixels = read_prompted(source, chunk)
            request = StepRequest(encode=[pixels[t] for t in chunk])
            prompted = [(t, i) for t in chunk for i, o in together.items() if t in o.prompts]
            for t, i in prompted:
                prompt = model.prepare(objects[i].prompts[t], height=source.height, width=source.width)
                request.prompts.append((chunk.index(t), prompt))
            results = model.submit(lane, request).prompts
            assert results is not None
            for n, (t, i) in enumerate(prompted):
                row = results.rows(n, n + 1)
                state.banks[i].add_prompted(t, row.memory[0], row.pointer[0])
                if not earliest_only or t == start:
                    state.prompted[t, i] = Rows(row.logits.clone(), row.object_logit.clone(), row.predicted_iou.clone())
    state.primed = True


def read_prompted(source: FrameSource, frames: Sequence[int]) -> Mapping[int, torch.Tensor]:
    """The pixels of prompted frames.

    Raises:
        PromptError: The video ends before one of them.
    """
    pixels = source.at(frames)
    for t in frames:
        if t not in pixels:
            raise PromptError(f"A prompt is on frame {t}, but the video ends before it.")
    return pixels
