"""Where objects end, and what their prompts are divided into by it."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from pipeline.errors import AfterEndError, PromptError
from pipeline.manifest.kinds import Prompt

IndexAt = Callable[[Sequence[float]], Sequence[int]]
"""The frames on screen at times in seconds, as `VideoReader.index_at`."""


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """One stretch of frames of an object between two of its ends, tracked by its own prompts alone."""

    prompts: tuple[int, ...]
    """Frames of its prompts, ascending."""
    corrections: tuple[int, ...]
    first: int
    """It has no row before this frame: 0 for the first appearance, the earliest prompt for a later one."""
    end: int | None
    """It has no row from this frame on."""


def end_of(prompt: Prompt, frame: int, index_at: IndexAt) -> int | None:
    """The frame at which a prompt on `frame` ends its object; None without an end, or if the video ends before it.

    Raises:
        PromptError: The end is not after the prompt.
    """
    end, text = prompt.until_frame, f"until_frame {prompt.until_frame}"
    if prompt.until_s is not None:
        text = f"until_s {prompt.until_s:g}"
        try:
            (end,) = index_at([prompt.until_s])
        except AfterEndError:
            return None
    if end is not None and end <= frame:
        at = "" if prompt.until_s is None else f", frame {end},"
        raise PromptError(f"{text}{at} is not after the prompt's frame {frame}; an object ends after its prompt")
    return end


def appearances(prompts: Collection[int], corrections: Collection[int], ends: Collection[int]) -> list[Appearance]:
    """The appearances of one object, in order: each end ends it, and its next prompt begins it again.

    Args:
        prompts: frames of its prompts, without corrections.
        corrections: frames of its corrections.
        ends: frames from which on it has no rows, until its next prompt.

    Raises:
        PromptError: A correction is on a frame where the object has ended.
    """
    cuts = sorted(set(ends))
    found: list[Appearance] = []
    for part in sorted({bisect_right(cuts, frame) for frame in prompts}):
        inside = [sorted(t for t in frames if bisect_right(cuts, t) == part) for frames in (prompts, corrections)]
        first = inside[0][0] if found else 0
        end = cuts[part] if part < len(cuts) else None
        found.append(Appearance(prompts=tuple(inside[0]), corrections=tuple(inside[1]), first=first, end=end))
    for frame in sorted(corrections):
        if not any(frame in each.corrections and frame >= each.first for each in found):
            raise PromptError(
                f"nothing to correct on frame {frame}: the object has ended before it, and no prompt begins it again"
            )
    return found
