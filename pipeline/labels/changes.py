"""The first frame whose masks may differ after the prompts of a video have changed. Pure.

The reasons, from the engine (`tracking/propagation.py`, `causal.py`, `bank.py`). In direction forward:

* Objects do not attend to each other. A frame of an object depends on its own prompts, and on its own tracked frames
  before it. So an object that is added or removed changes frames from its first prompt on.
* An end divides an object into appearances, each tracked by its own prompts (`manifest/ends.py`). Rows stop at the end,
  and no row before it depends on it.
* A correction runs on its frame, after the frame was tracked. It changes that frame and later ones.
* All prompts are run before anything is tracked, and every frame attends to their memories, also to those of later
  frames. So a changed prompt changes its object from the object's first frame on. With `max_conditioning_frames` a
  frame attends only to prompted frames before it, and a changed prompt changes frames from its own on.
* Prompted frames are labelled at any label rate. A prompt on a frame off the grid adds a labelled frame, and with few
  labelled frames their number scales the distances of all frames.

With `retire_after_s` an object does not end by itself while a correction comes before its next prompt, so a correction
changes earlier frames. In direction backward, earlier frames depend on later ones; in direction both, the backward pass
depends on the frames after an object's first prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.labels.key import Parameters
from pipeline.manifest import Prompt
from pipeline.manifest.ends import IndexAt, appearances, end_of

NO_FRAME = 2**31 - 1
"""Greater than every frame index: no frame changes."""


@dataclass(frozen=True, kw_only=True)
class _Appearance:
    prompts: Mapping[int, Prompt]
    """By frame."""
    corrections: Mapping[int, Prompt]
    end: int | None


def first_changed_frame(
    old: Sequence[Prompt],
    new: Sequence[Prompt],
    parameters: Parameters,
    *,
    index_at: IndexAt,
    on_grid: Callable[[int], bool] = lambda _: True,
) -> int | None:
    """The first frame whose rows may differ between labels from `old` and from `new` prompts.

    None if no tracked frame is known to stay as it is; NO_FRAME if all do.

    Args:
        old: the prompts of existing labels.
        new: the prompts of wanted labels; everything else in the label key is the same.
        parameters: of both labels.
        index_at: gives the frames on screen at times in seconds.
        on_grid: whether a frame is labelled also without a prompt; all are, unless there is a label rate.

    Raises:
        PromptError: Prompts do not fit together, or a time is after the video's end.
    """
    if not leaves_earlier_frames(parameters):
        return None
    before, after = _appearances(old, index_at), _appearances(new, index_at)
    if _off_grid(before, on_grid) != _off_grid(after, on_grid):
        return None
    causal = parameters.max_conditioning_frames is not None
    first = min(
        (_change(before.get(place), after.get(place), causal=causal) for place in before.keys() | after.keys()),
        default=NO_FRAME,
    )
    tracked_from = min((start for _, start in before.keys() & after.keys()), default=NO_FRAME)
    return first if first > tracked_from or first == NO_FRAME else None


def leaves_earlier_frames(parameters: Parameters) -> bool:
    """Whether with these parameters changed prompts may leave the frames before them as they are."""
    return parameters.direction == "forward" and parameters.retire_after_s is None


def _change(old: _Appearance | None, new: _Appearance | None, *, causal: bool) -> int:
    """The first changed frame of an object that begins on the same frame in both, or is in one of them alone."""
    if old is None or new is None:
        alone = old or new
        assert alone is not None
        return min(alone.prompts)
    prompted = _differing(old.prompts, new.prompts)
    if prompted and not causal:
        return min(old.prompts)
    ends = {NO_FRAME if each.end is None else each.end for each in (old, new)}
    changed = [*prompted, *_differing(old.corrections, new.corrections), *(ends if len(ends) > 1 else ())]
    return min(changed, default=NO_FRAME)


def _differing(old: Mapping[int, Prompt], new: Mapping[int, Prompt]) -> list[int]:
    return [frame for frame in old.keys() | new.keys() if old.get(frame) != new.get(frame)]


def _off_grid(found: Mapping[tuple[int, int], _Appearance], on_grid: Callable[[int], bool]) -> set[int]:
    frames = {frame for each in found.values() for frame in (*each.prompts, *each.corrections)}
    return {frame for frame in frames if not on_grid(frame)}


def _appearances(prompts: Sequence[Prompt], index_at: IndexAt) -> dict[tuple[int, int], _Appearance]:
    """The appearances of all objects, by object id and first prompted frame."""
    timed = iter(index_at([prompt.time_s for prompt in prompts if prompt.time_s is not None]))
    objects: dict[int, dict[int, Prompt]] = {}
    ends: dict[int, set[int]] = {}
    for prompt in prompts:
        frame = prompt.frame_index if prompt.frame_index is not None else next(timed)
        if (end := end_of(prompt, frame, index_at)) is not None:
            ends.setdefault(prompt.object_id, set()).add(end)
        objects.setdefault(prompt.object_id, {})[frame] = _geometry(prompt)
    found = {}
    for object_id, frames in objects.items():
        corrections = {frame for frame, prompt in frames.items() if prompt.correct}
        for each in appearances(frames.keys() - corrections, corrections, ends.get(object_id, set())):
            found[object_id, each.prompts[0]] = _Appearance(
                prompts={frame: frames[frame] for frame in each.prompts},
                corrections={frame: frames[frame] for frame in each.corrections},
                end=each.end,
            )
    return found


def _geometry(prompt: Prompt) -> Prompt:
    """The prompt without what its frame and its appearance have, and without its category."""
    return replace(prompt, frame_index=None, time_s=None, until_frame=None, until_s=None, category=None)
