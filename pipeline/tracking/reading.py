"""Reading a video's frames ahead of the step, and closing their decoder."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pipeline.tracking.stepping import Features

Frame = tuple[int, torch.Tensor]
"""A frame's index and its pixels as the model takes them."""


@dataclass(kw_only=True, eq=False)
class PendingFrame:
    """A frame that was read and not yet stepped."""

    index: int
    pixels: torch.Tensor | None
    """None once the frame is encoded, or if nothing on it is tracked."""
    features: Features | None = None


def read_on(frames: Iterator[Frame], known: int, limit: int) -> tuple[int, list[Frame]]:
    """Read until the video is known to have `limit` frames, or to its end.

    Returns min(video length, `limit`) and the frames that were read.
    """
    head: list[Frame] = []
    while known < limit and (frame := next(frames, None)) is not None:
        head.append(frame)
        known = max(known, frame[0] + 1)
    return min(known, limit), head


def chain(head: list[Frame], rest: Iterator[Frame]) -> Iterator[Frame]:
    """The frames of `head` and then of `rest`. A frame of `head` is released when it is yielded."""
    head.reverse()
    with closing(rest):
        while head:
            yield head.pop()
        yield from rest


@contextmanager
def closing(frames: Iterator[Frame]) -> Iterator[Iterator[Frame]]:
    """Close a generator at the end, so that its decoder ends too."""
    try:
        yield frames
    finally:
        if isinstance(frames, Generator):
            frames.close()
