"""Which frames of a pass are on screen at regular times."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

NO_INDEX = -1
"""Index of a frame whose predecessors were not decoded; it is known by its time."""


def on_screen(
    frames: Iterable[tuple[int, T]], time_of: Callable[[int], float], step_s: float, tolerance_s: float
) -> Iterator[tuple[int, T]]:
    """The frames on screen at the time of the first one, `step_s` later and so on; each at most once.

    Args:
        frames: all frames of a segment by index, in presentation order.
        time_of: seconds at which the frame of an index appears.
        step_s: seconds between two looks.
        tolerance_s: a frame may appear later than the time of its look by this.
    """
    shown: tuple[int, T] | None = None
    start = appeared = interval = 0.0

    def is_due(until: float) -> bool:
        """Whether a look falls between the appearance of the shown frame and `until`, when the next one appears."""
        look = start + math.ceil((appeared - tolerance_s - start) / step_s) * step_s
        return look < until - tolerance_s

    for index, frame in frames:
        time = time_of(index)
        if shown is None:
            start = time
        elif is_due(time):
            yield shown
        interval = time - appeared if shown else 0.0
        shown, appeared = (index, frame), time
    if shown and is_due(appeared + max(interval, 2.0 * tolerance_s)):
        yield shown
