"""Every model family equals transformers' own loop, continues from checkpoints, shares lanes and bounds its memory."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipeline.tracking import Direction, Engine, TrackedObject
from pipeline.tracking.sam2.model import Sam2
from tests.tracking import compare, models
from tests.tracking import videos as v

OBJECTS = [
    v.tracked(5, f0=v.prompt("click")),
    v.tracked(1, f0=v.prompt("box"), f6=v.prompt("click")),
    v.tracked(3, f2=v.prompt("mask")),
    v.tracked(2, f1=v.prompt("clicks"), f2=v.prompt("box+points")),
    v.tracked(9, f8=v.prompt("click")),
]
"""Every kind of prompt, refinements, late objects."""
OFF = v.click((0.5 * v.WIDTH, 0.5 * v.HEIGHT, 0))
BOX = v.box(40, 20, 100, 70)


@pytest.fixture(params=models.FAMILIES)
def family(request: pytest.FixtureRequest) -> Sam2:
    return models.FAMILIES[request.param]()


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_each_family_equals_transformers(family: Sam2, direction: Direction) -> None:
    compare.to_transformers(family, v.video(10), OBJECTS, direction).check()


def test_each_familys_corrections_equal_transformers(family: Sam2) -> None:
    objects = [
        TrackedObject(object_id=0, prompts={3: v.prompt("click")}, corrections={1: OFF, 5: OFF, 7: BOX}),
        TrackedObject(object_id=1, prompts={3: v.prompt("mask")}, corrections={5: BOX}),
        v.tracked(2, f3=v.prompt("empty mask")),
    ]
    compare.to_transformers(family, v.video(9), objects, "both").check()


def test_each_familys_absent_objects_equal_transformers(family: Sam2) -> None:
    bias = family.model.mask_decoder.pred_obj_score_head.proj_out.bias
    before = bias.clone()
    with torch.no_grad():
        bias.fill_(-20.0)
    try:
        objects = [v.tracked(0, f0=v.prompt("click")), v.tracked(1, f0=v.prompt("mask"))]
        compare.to_transformers(family, v.video(5), objects, "forward").check()
    finally:
        with torch.no_grad():
            bias.copy_(before)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_each_familys_checkpoint_continues_bit_by_bit(family: Sam2, direction: Direction) -> None:
    engine, source = Engine(family), v.MemorySource(family, v.video(9))
    whole = list(engine.propagate(source, OBJECTS, direction=direction))
    for stop in (1, 5, len(whole) - 2):
        with engine.propagate(source, OBJECTS, direction=direction) as first:
            head = list(itertools.islice(first, stop))
            state = first.checkpoint()
        tail = engine.propagate(source, OBJECTS, direction=direction, resume=state)
        for expected, got in zip(whole, [*head, *tail], strict=True):
            assert expected.object_ids == got.object_ids
            assert torch.equal(expected.logits, got.logits)


def test_each_familys_lanes_change_nothing(family: Sam2) -> None:
    sources = [v.MemorySource(family, v.video(9, seed=seed)) for seed in range(3)]
    alone = [list(Engine(family).propagate(source, OBJECTS)) for source in sources]
    engine = Engine(family, lanes=3)
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda source: list(engine.propagate(source, OBJECTS)), sources))
    for one, other in zip(alone, together, strict=True):
        compare.frames_alike(one, other).check()


def test_each_familys_bfloat16_runs_every_kind_of_prompt(family: Sam2) -> None:
    """Random weights choose between near-equal masks, so later frames tell nothing: transformers' bfloat16 differs as
    much from its float32."""
    objects = [v.tracked(n, f0=v.prompt(kind)) for n, kind in enumerate(v.KINDS)]
    source = v.MemorySource(family, v.video(2))
    exact = list(Engine(family).propagate(source, objects))
    rounded = list(Engine(family, dtype=torch.bfloat16).propagate(source, objects))
    assert all(torch.isfinite(frame.logits).all() for frame in rounded)
    assert (rounded[1].logits > 0).any()
    mask = v.KINDS.index("mask")
    assert torch.equal(exact[0].logits[mask] > 0, rounded[0].logits[mask] > 0)


class Repeated:
    """A long video of few frames, held once."""

    def __init__(self, family: Sam2, frames: int) -> None:
        self.height, self.width = v.HEIGHT, v.WIDTH
        self._length = frames
        self._pixels = [family.resize(f) for f in v.video(4)]

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._pixels[t % 4]) for t in range(start, self._length))

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return ((t, self._pixels[t % 4]) for t in range(start, -1, -1))

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return {t: self._pixels[t % 4] for t in indices}


def test_each_familys_state_stays_bounded(family: Sam2) -> None:
    """The state is all that a propagation keeps from frame to frame; each frame more is the same size."""
    objects = OBJECTS[:2]
    with Engine(family).propagate(Repeated(family, 40), objects) as frames:
        sizes = {frame.frame_index: len(frames.checkpoint()) for frame in frames if frame.frame_index in (24, 39)}
    assert sizes[39] <= sizes[24] + 100
