"""Which states of a video are kept. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_SPACING = 8
"""Labelled frames between two states of a short video."""


@dataclass(frozen=True, kw_only=True)
class KeptState:
    frames: int
    """Labelled frames before it."""
    before: int
    """The frame of the video after the last of them."""
    path: str
    size: int
    sha256: str


def spacing(frames: int, most: int) -> int:
    """Labelled frames between two states of a video with `frames` so far: FIRST_SPACING, doubled until `most` suffice.

    So a video has at most `most` states, and between two of them lies at most a share of 2 / `most` of its frames.
    """
    step = FIRST_SPACING
    while frames >= step * most:
        step *= 2
    return step


def thinned(frames: Sequence[int], most: int) -> list[int]:
    """Of states after these numbers of frames, ascending, the ones to keep: the first in each interval of `spacing`."""
    step = spacing(frames[-1], most) if frames else 1
    first: dict[int, int] = {}
    for each in frames:
        first.setdefault(each // step, each)
    return list(first.values())


@dataclass(kw_only=True)
class Intervals:
    """When the next state of a video is due."""

    most: int
    frames: int = 0
    """Labelled frames so far."""
    last: int = 0
    """Labelled frames at the last state."""

    def due(self, *, usable: bool) -> bool:
        """Count a labelled frame; whether the state after it is to be kept. It then counts as kept.

        `usable`: whether a state after this frame is of use; if not, a later one is kept instead.
        """
        self.frames += 1
        step = spacing(self.frames, self.most)
        if not usable or self.frames // step == self.last // step:
            return False
        self.last = self.frames
        return True
