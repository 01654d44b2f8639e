"""Which frames of a video are labelled: a grid at a rate or a stride, and the prompted frames."""

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pipeline.video.info import TOLERANCE_S

_RATE = re.compile(r"(\d+)f|(\d+(?:\.\d+)?(?:e-?\d+)?)fps")


@dataclass(frozen=True, kw_only=True)
class FrameGrid:
    """The frames to label. Frame 0 of the segment is always one of them."""

    every: int | None = None
    """Stride in frames: 0, N, 2N, ..."""
    fps: float | None = None
    """Rate: the first frame at or after each multiple of 1 / fps seconds after the segment's first frame."""
    also: Collection[int] = ()
    """More frames: those with prompts."""

    @classmethod
    def of(cls, text: str, *, also: Collection[int] = ()) -> "FrameGrid":
        """The grid of a label rate as the videos table holds it: `3f` or `6fps`.

        Raises:
            ValueError: The text is no label rate.
        """
        found = _RATE.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} is no label rate; allowed are texts such as 3f and 6fps")
        if found[1]:
            return cls(every=int(found[1]), also=frozenset(also))
        return cls(fps=float(found[2]), also=frozenset(also))

    def has(self, frame: int, time_of: Callable[[int], float]) -> bool:
        """Whether a frame is labelled; `time_of` gives the times of frames up to this one, in seconds."""
        if frame == 0 or frame in self.also:
            return True
        if self.every is not None:
            return frame % self.every == 0
        return self._tick(frame, time_of) != self._tick(frame - 1, time_of)

    def stride(self, fps: float | None) -> int:
        """Frames from one labelled frame to the next in a video of this rate, rounded up; 24 where it is not known."""
        return self.every or math.ceil((fps or 24.0) / (self.fps or 24.0))

    def _tick(self, frame: int, time_of: Callable[[int], float]) -> int:
        assert self.fps is not None
        return int((time_of(frame) - time_of(0) + TOLERANCE_S) * self.fps)

    def to_dict(self) -> dict[str, Any]:
        """Its arguments as JSON values."""
        return {"every": self.every, "fps": self.fps, "also": sorted(self.also)}
