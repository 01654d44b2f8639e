"""A manifest's prompts, checked against the video they are for, as the tracker takes them."""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.errors import PromptError, RleError
from pipeline.manifest import Prompt
from pipeline.masks import rle
from pipeline.tracking import FramePrompt, TrackedObject


def resolve_prompts(
    prompts: Sequence[Prompt], *, height: int, width: int, index_at: Callable[[list[float]], list[int]]
) -> list[TrackedObject]:
    """Objects with their prompts by frame, in the order of their ids.

    Args:
        prompts: prompts of one video, each valid by itself.
        height, width: the displayed frame, in pixels.
        index_at: gives the frames on screen at times in seconds; raises PromptError outside of the video.

    Raises:
        PromptError: A prompt does not fit the video: two meet on one frame, or one lies outside the frame.
    """
    timed = iter(index_at([prompt.time_s for prompt in prompts if prompt.time_s is not None]))
    objects: dict[int, dict[int, FramePrompt]] = {}
    corrections: set[tuple[int, int]] = set()
    for prompt in prompts:
        frame = prompt.frame_index if prompt.frame_index is not None else next(timed)
        where = f"object {prompt.object_id}, frame {frame}"
        where += f" (time_s {prompt.time_s:g})" if prompt.time_s is not None else ""
        frames = objects.setdefault(prompt.object_id, {})
        if frame in frames:
            raise PromptError(f"{where}: two prompts meet on this frame; one prompt per object and frame is allowed")
        frames[frame] = _check(prompt, where, height, width)
        if prompt.correct:
            corrections.add((prompt.object_id, frame))
    return [
        TrackedObject(
            object_id=object_id,
            prompts={t: said for t, said in sorted(frames.items()) if (object_id, t) not in corrections},
            corrections={t: said for t, said in sorted(frames.items()) if (object_id, t) in corrections},
        )
        for object_id, frames in sorted(objects.items())
    ]


def _check(prompt: Prompt, where: str, height: int, width: int) -> FramePrompt:
    frame = f"the frame is {width} x {height} pixels (width x height)"
    for x, y, _ in prompt.points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise PromptError(f"{where}: point ({x:g}, {y:g}) lies outside the frame; {frame}")
    if prompt.box:
        x_min, y_min, x_max, y_max = prompt.box
        if x_max <= 0 or y_max <= 0 or x_min >= width or y_min >= height:
            raise PromptError(f"{where}: box ({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g}) misses the frame; {frame}")
    mask = None
    if prompt.mask:
        size, counts = prompt.mask
        if tuple(size) != (height, width):
            raise PromptError(f"{where}: the mask's size [height, width] is {list(size)}; {frame}")
        try:
            mask = rle.decode(counts, size)
        except RleError as error:
            raise PromptError(f"{where}: {error}") from None
        if not mask.any():
            raise PromptError(f"{where}: the mask is empty; it must mark at least one pixel")
    return FramePrompt(
        points=np.array([point[:2] for point in prompt.points], np.float32) if prompt.points else None,
        labels=np.array([point[2] for point in prompt.points], np.int32) if prompt.points else None,
        box=np.array(prompt.box, np.float32) if prompt.box else None,
        mask=mask,
    )
