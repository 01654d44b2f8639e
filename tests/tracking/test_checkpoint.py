"""A checkpoint continues as if nothing had happened, and memory does not grow."""

import gc
import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch

from pipeline.tracking import Direction, Engine
from tests.tracking import models
from tests.tracking import videos as v

SAM2 = models.random_model(1)
OBJECTS = [
    v.tracked(4, f2=v.prompt("click")),
    v.tracked(1, f3=v.prompt("box"), f6=v.prompt("mask")),
    v.tracked(7, f5=v.prompt("clicks")),
]


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_checkpoint_continues_bit_by_bit(direction: Direction) -> None:
    source = v.MemorySource(SAM2, v.video(10))
    whole = list(Engine(SAM2).propagate(source, OBJECTS, direction=direction))
    for stop in range(0, len(whole) + 1, 4):
        with Engine(SAM2).propagate(source, OBJECTS, direction=direction) as first:
            head = list(itertools.islice(first, stop))
            state = first.checkpoint()
        tail = list(Engine(SAM2).propagate(source, OBJECTS, direction=direction, resume=state))
        assert [f.frame_index for f in head + tail] == [f.frame_index for f in whole]
        for expected, got in zip(whole, head + tail, strict=True):
            assert expected.object_ids == got.object_ids
            for name in ("logits", "object_logit", "predicted_iou"):
                torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def test_a_checkpoint_of_other_prompts_is_refused() -> None:
    source = v.MemorySource(SAM2, v.video(10))
    first = Engine(SAM2).propagate(source, OBJECTS)
    next(first)
    with pytest.raises(ValueError, match="other objects"):
        Engine(SAM2).propagate(source, OBJECTS[:2], resume=first.checkpoint())
    with pytest.raises(ValueError, match="direction"):
        Engine(SAM2).propagate(source, OBJECTS, direction="both", resume=first.checkpoint())


def test_a_damaged_checkpoint_is_refused_by_a_value_error() -> None:
    source, engine = v.MemorySource(SAM2, v.video(10)), Engine(SAM2)
    with engine.propagate(source, OBJECTS) as first:
        next(first)
        state = first.checkpoint()
    header = 8 + int.from_bytes(state[:8], "little")
    for place in (0, 5, 8, 100, header - 1, header, len(state) - 1):
        with pytest.raises(ValueError):  # noqa: PT011 - the JSON, the tensors and the state have each their own message
            engine.propagate(source, OBJECTS, resume=state[:place])
    refused = 0
    for place in range(0, header, 41):
        flipped = state[:place] + bytes([state[place] ^ 1 << place % 7]) + state[place + 1 :]
        try:
            engine.propagate(source, OBJECTS, resume=flipped)
        except ValueError:
            refused += 1
    assert refused > 10  # and nothing else was raised; another digit in a frame's number cannot be noticed here


def test_a_checkpoint_is_bounded() -> None:
    source = v.MemorySource(SAM2, v.video(30))
    with Engine(SAM2).propagate(source, OBJECTS) as frames:
        sizes = [len(frames.checkpoint()) for _ in frames]
    assert max(sizes) < len(OBJECTS) * 200_000
    assert sizes[-1] <= sizes[24] + 100


class Repeated:
    """A long video of few frames, held once."""

    def __init__(self, frames: int) -> None:
        self.height, self.width = v.HEIGHT, v.WIDTH
        self._length = frames
        self._pixels = [SAM2.resize(f) for f in v.video(8)]

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._pixels[t % 8]) for t in range(start, self._length))

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._pixels[t % 8]) for t in range(start, -1, -1))

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return {t: self._pixels[t % 8] for t in indices}


def live_bytes() -> int:
    gc.collect()
    return sum(t.untyped_storage().nbytes() for t in _tensors())


def _tensors() -> list[torch.Tensor]:
    storages = {}
    for thing in gc.get_objects():
        if not isinstance(thing, torch.Tensor) or isinstance(thing, torch._subclasses.FakeTensor):
            continue
        if not thing.is_mkldnn:  # weights in oneDNN's layout tell nothing of their storage
            storages[thing.untyped_storage().data_ptr()] = thing
    return list(storages.values())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_live_tensors_do_not_grow_with_the_video() -> None:
    held = []
    with Engine(SAM2).propagate(Repeated(50), OBJECTS, direction="both") as frames:
        for frame in frames:
            if frame.frame_index in (28, 46) and len(held) < 2:
                del frame
                held.append(live_bytes())
    assert held[1] <= held[0] + 100_000


PEAKS = """
import resource
from tests.tracking.test_checkpoint import Engine, Repeated, SAM2, v
objects = [v.tracked(n, f0=v.prompt("click")) for n in range(4)]
engine = Engine(SAM2)
for frames in (200, 200, 4000):  # the second video of a process settles the heap
    for _ in engine.propagate(Repeated(frames), objects):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video() -> None:
    """Peak RSS of a process after 4,000 frames within 10 MiB of that after 200, 4 objects."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    _, few, many = (float(line) for line in done.stdout.split())
    print(f"\npeak RSS: {few:.0f} MiB after 200 frames, {many:.0f} MiB after 4,000")
    assert many - few <= 10
