"""The labelled frames of a video by position: the tracker counts them 0, 1, 2, ... as if there were no others."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import PromptError
from pipeline.tracking import TrackedFrame, TrackedObject
from pipeline.tracking.decisions import Decider, Decision
from pipeline.video import FrameGrid, VideoReader

FIRST_FRAMES = 64
"""Number of frames whose times are read at first to find a position; doubled until it is found."""
RATE_TOLERANCE = 0.01
"""Share by which a label rate may exceed the video's: 30 of 29.97 frames a second are all of them."""


class ChosenFrames:
    """The frames of a grid, found as far as they are needed."""

    def __init__(
        self, reader: VideoReader, rate: str, objects: Sequence[TrackedObject], *, also: Iterable[int] = ()
    ) -> None:
        """Frames at a label rate such as `3f` or `6fps`, the prompted frames of the objects, and the frames of `also`.

        Raises:
            PromptError: The rate is above the video's own.
        """
        prompted = {frame for each in objects for frame in (*each.prompts, *each.corrections)}
        self.grid = FrameGrid.of(rate, also={*prompted, *also})
        self._reader = reader
        self._frames: list[int] = []
        self._decided = 0
        """Frames up to this one are decided."""
        self._ended = False
        own = reader.info.fps
        if self.grid.fps is not None and own is not None and self.grid.fps > own * (1 + RATE_TOLERANCE):
            raise PromptError(
                f"the label rate is {self.grid.fps:g} frames a second, but the video has {own:g}; allowed is at most "
                "that, or leave the rate out to label every frame"
            )

    def positions_of(self, objects: Sequence[TrackedObject]) -> list[TrackedObject]:
        """The objects with positions for frames."""
        return [
            replace(
                each,
                prompts={self.position(frame): prompt for frame, prompt in each.prompts.items()},
                corrections={self.position(frame): prompt for frame, prompt in each.corrections.items()},
                first=self.before(each.first),
                end=None if each.end is None else self.before(each.end),
            )
            for each in objects
        ]

    def position(self, frame: int) -> int:
        """The position of a chosen frame.

        Raises:
            PromptError: The video ends before it.
        """
        self._decide(frame + 1)
        place = bisect_left(self._frames, frame)
        if self._frames[place : place + 1] != [frame]:
            raise PromptError(f"A prompt is on frame {frame}, but the video ends before it.")
        return place

    def before(self, frame: int) -> int:
        """The number of chosen frames before a frame."""
        self._decide(frame)
        return bisect_left(self._frames, frame)

    def ends_before(self, frames: Iterable[int]) -> tuple[int, ...]:
        """For each frame, such as the first one of a shot, the frame after the last chosen one before it."""
        return tuple(self._frames[self.before(frame) - 1] + 1 for frame in frames)

    def frame(self, position: int) -> int | None:
        """The chosen frame at a position; None where the video has fewer."""
        count = max(FIRST_FRAMES, position + 1)
        while len(self._frames) <= position and not self._ended:
            self._decide(count)
            count *= 2
        return self._frames[position] if position < len(self._frames) else None

    def up_to(self, frame: int) -> Sequence[int]:
        """The chosen frames up to a frame of the video."""
        self._decide(frame + 1)
        return self._frames[: bisect_left(self._frames, frame + 1)]

    def _decide(self, count: int) -> None:
        if count <= self._decided or self._ended:
            return
        times: list[float] = []
        if self.grid.every is None:
            times = self._reader.times(count)
            self._ended = len(times) < count
            count = len(times)
        self._frames += [t for t in range(self._decided, count) if self.grid.has(t, times.__getitem__)]
        self._decided = max(self._decided, count)


class DeciderOfPositions:
    """A `Decider` over positions of chosen frames, for one that decides on frames of the video."""

    def __init__(self, decider: Decider, chosen: ChosenFrames) -> None:
        self._decider, self._chosen = decider, chosen

    @property
    def first(self) -> int | None:
        return None if self._decider.first is None else self._chosen.before(self._decider.first)

    def looks_at(self, frame: int) -> bool:
        return self._decider.looks_at(self._frame(frame))

    def decide(self, frame: int, tracked: TrackedFrame | None) -> Decision:
        index = self._frame(frame)
        return self._decider.decide(index, tracked and replace(tracked, frame_index=index))

    def state(self) -> dict[str, Any]:
        return self._decider.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self._decider.restore(state)

    def _frame(self, position: int) -> int:
        frame = self._chosen.frame(position)
        assert frame is not None
        return frame
