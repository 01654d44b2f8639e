"""The prompts of a manifest, checked against their video, as input of the tracker."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PromptError
from pipeline.manifest import Prompt, kinds_of
from pipeline.manifest.ends import IndexAt, appearances, end_of
from pipeline.tracking import FramePrompt, TrackedObject


def resolve_prompts(prompts: Sequence[Prompt], *, height: int, width: int, index_at: IndexAt) -> list[TrackedObject]:
    """Objects with their prompts by frame, in the order of their ids; one for each appearance of an object that ends.

    Args:
        prompts: prompts of one video, each valid by itself.
        height, width: the displayed frame, in pixels.
        index_at: gives the frames on screen at times in seconds; raises PromptError outside of the video.

    Raises:
        PromptError: A prompt does not fit the video: an object has two on one frame, one lies outside the frame, or
            its object ends before it.
    """
    timed = iter(index_at([prompt.time_s for prompt in prompts if prompt.time_s is not None]))
    objects: dict[int, dict[int, FramePrompt]] = {}
    ends: dict[int, set[int]] = {}
    corrections: set[tuple[int, int]] = set()
    for prompt in prompts:
        frame = prompt.frame_index if prompt.frame_index is not None else next(timed)
        where = f"object {prompt.object_id}, frame {frame}"
        where += f" (time_s {prompt.time_s:g})" if prompt.time_s is not None else ""
        frames = objects.setdefault(prompt.object_id, {})
        if frame in frames:
            raise PromptError(f"{where}: two prompts on one frame; one prompt per object and frame is allowed")
        frames[frame] = _to_engine(prompt, where, height, width)
        try:
            end = end_of(prompt, frame, index_at)
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error
        if end is not None:
            ends.setdefault(prompt.object_id, set()).add(end)
        if prompt.correct:
            corrections.add((prompt.object_id, frame))
    return [
        each
        for object_id, frames in sorted(objects.items())
        for each in _appearances(
            object_id, frames, {t for t in frames if (object_id, t) in corrections}, ends.get(object_id, set())
        )
    ]


def _appearances(
    object_id: int, frames: Mapping[int, FramePrompt], corrections: set[int], ends: set[int]
) -> Iterator[TrackedObject]:
    try:
        found = appearances(frames.keys() - corrections, corrections, ends)
    except PromptError as error:
        raise PromptError(f"object {object_id}: {error}") from error
    for each in found:
        yield TrackedObject(
            object_id=object_id,
            prompts={t: frames[t] for t in each.prompts},
            corrections={t: frames[t] for t in each.corrections},
            first=each.first,
            end=each.end,
        )


def _to_engine(prompt: Prompt, where: str, height: int, width: int) -> FramePrompt:
    arrays: dict[str, list[npt.NDArray[Any]]] = {}
    for kind, value in kinds_of(prompt):
        for misfit in kind.misfits(value, (height, width)):
            raise PromptError(f"{where}: {misfit}")
        for name, array in kind.arrays(value, (height, width)).items():
            arrays.setdefault(name, []).append(array)
    return FramePrompt(**{name: np.concatenate(some) for name, some in arrays.items()})
