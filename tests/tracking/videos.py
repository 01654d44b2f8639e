"""Small videos with moving things, prompts for them, and a frame source over frames in memory."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.tracking import FramePrompt, TrackedObject
from pipeline.tracking.stepping import LoadedModel

HEIGHT, WIDTH = 90, 140


def video(frames: int, *, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> list[NDArray[np.uint8]]:
    """Discs and boxes that drift over a textured ground."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(60, 120, (height, width, 3))
    ys, xs = np.mgrid[:height, :width]
    colours = rng.integers(0, 256, (4, 3))
    places = rng.uniform(0.2, 0.8, (4, 2)) * [height, width]
    speeds = rng.uniform(-1.5, 1.5, (4, 2))
    sizes = rng.uniform(8, 16, 4)
    made = []
    for t in range(frames):
        frame = ground.copy()
        for n in range(4):
            y, x = (places[n] + t * speeds[n]) % [height, width]
            inside = (ys - y) ** 2 + (xs - x) ** 2 < sizes[n] ** 2
            if n % 2:
                inside = np.maximum(abs(ys - y), abs(xs - x)) < sizes[n]
            frame[inside] = colours[n]
        made.append(frame.astype(np.uint8))
    return made


class MemorySource:
    """A FrameSource over frames in memory that counts what is read."""

    def __init__(self, sam2: LoadedModel, frames: Sequence[NDArray[np.uint8]]) -> None:
        self.height, self.width = frames[0].shape[:2]
        self._frames = [sam2.resize(f) for f in frames]
        self.read = 0

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        for t in range(start, len(self._frames)):
            self.read += 1
            yield t, self._frames[t]

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        for t in range(start, -1, -1):
            self.read += 1
            yield t, self._frames[t]

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return {t: self._frames[t] for t in indices if t < len(self._frames)}


def click(*points: tuple[float, float, int]) -> FramePrompt:
    return FramePrompt(
        points=np.array([p[:2] for p in points], np.float32), labels=np.array([p[2] for p in points], np.int64)
    )


def box(*corners: float, points: tuple[tuple[float, float, int], ...] = ()) -> FramePrompt:
    extent = np.array(corners, np.float32)
    if not points:
        return FramePrompt(box=extent)
    return FramePrompt(box=extent, points=click(*points).points, labels=click(*points).labels)


def mask(top: int, left: int, bottom: int, right: int, *, height: int = HEIGHT, width: int = WIDTH) -> FramePrompt:
    drawn = np.zeros((height, width), bool)
    drawn[top:bottom, left:right] = True
    return FramePrompt(mask=drawn)


def prompt(kind: str, *, height: int = HEIGHT, width: int = WIDTH) -> FramePrompt:
    """A prompt of each kind somewhere in the frame."""
    h, w = height, width
    made = {
        "click": lambda: click((0.4 * w, 0.5 * h, 1)),
        "clicks": lambda: click((0.4 * w, 0.5 * h, 1), (0.5 * w, 0.6 * h, 1), (0.1 * w, 0.1 * h, 0)),
        "box": lambda: box(0.2 * w, 0.3 * h, 0.7 * w, 0.8 * h),
        "box+points": lambda: box(0.2 * w, 0.3 * h, 0.7 * w, 0.8 * h, points=((0.5 * w, 0.5 * h, 1),)),
        "mask": lambda: mask(int(0.3 * h), int(0.2 * w), int(0.8 * h), int(0.6 * w), height=h, width=w),
        "empty mask": lambda: mask(0, 0, 0, 0, height=h, width=w),
    }
    return made[kind]()


KINDS = ("click", "clicks", "box", "box+points", "mask")


def tracked(object_id: int, **prompts: FramePrompt) -> TrackedObject:
    """`tracked(7, f0=click(...), f8=box(...))`"""
    return TrackedObject(object_id=object_id, prompts={int(name[1:]): p for name, p in prompts.items()})
