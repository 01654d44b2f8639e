"""Reading a video's frames ahead, and ending their decoder."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import torch

Frame = tuple[int, torch.Tensor]
"""Its index and its pixels as the model wants them."""


def read_on(frames: Iterator[Frame], known: int, limit: int) -> tuple[int, list[Frame]]:
    """Read until the video is known to have `limit` frames or ends: the lesser of both, and what was read."""
    head: list[Frame] = []
    while known < limit and (frame := next(frames, None)) is not None:
        head.append(frame)
        known = max(known, frame[0] + 1)
    return min(known, limit), head


def chain(head: list[Frame], rest: Iterator[Frame]) -> Iterator[Frame]:
    """`head`, of which nothing is held after it is given, and then the rest."""
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
