"""The reference engine is transformers' own loop, bit by bit, with the fast engine's bounds, lanes and checkpoints."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch

from pipeline.tracking import Direction, Engine, TrackedFrame, TrackedObject
from pipeline.tracking.reference import ReferenceStepper
from pipeline.tracking.stepping import LoadedModel
from tests.tracking import compare, models
from tests.tracking import videos as v
from tests.tracking.test_corrections import BOTH, BOX, OFF, corrected
from tests.tracking.test_lanes import run_together
from tests.tracking.test_parity import mixed


def reference(model: LoadedModel, *, lanes: int = 1) -> Engine:
    return Engine(model, lanes=lanes, stepper=ReferenceStepper(model, dtype=torch.float32))


def bits_alike(one: Sequence[TrackedFrame], other: Sequence[TrackedFrame]) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a.frame_index, a.object_ids, a.is_prompted) == (b.frame_index, b.object_ids, b.is_prompted)
        for name in ("logits", "object_logit", "predicted_iou"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("frames", "direction"), [(1, "both"), (2, "backward"), (18, "both")])
def test_its_rows_are_transformers_own(frames: int, direction: Direction) -> None:
    model = models.random_model(1)
    objects = mixed(frames)[:3]
    difference = compare.to_transformers(model, v.video(frames), objects, direction, engine=reference(model))
    assert difference.inside
    assert (difference.flipped, difference.object_logit, difference.predicted_iou) == (0, 0.0, 0.0)


@pytest.mark.parametrize("family", ["sam3", "edgetam"])
def test_its_rows_are_those_of_each_familys_model(family: str) -> None:
    model: LoadedModel = (
        models.random_sam3(models.small_sam3_config())
        if family == "sam3"
        else models.random_edgetam(models.small_edgetam_config())
    )
    objects = [v.tracked(1, f0=v.prompt("click")), v.tracked(2, f1=v.prompt("box"), f3=v.prompt("mask"))]
    difference = compare.to_transformers(model, v.video(5), objects, "both", engine=reference(model))
    assert difference.inside
    assert (difference.flipped, difference.object_logit, difference.predicted_iou) == (0, 0.0, 0.0)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_its_corrections_are_transformers_own(direction: Direction) -> None:
    model = models.random_model(1, max_cond_frame_num=2)
    reached = {"forward": {5: OFF, 6: BOX}, "backward": {1: BOTH}}[direction]
    objects = [
        corrected(0, 3, reached),
        v.tracked(2, f3=v.prompt("box"), f4=v.prompt("click"), f6=v.prompt("mask")),
    ]
    difference = compare.to_transformers(model, v.video(8), objects, direction, engine=reference(model))
    assert difference.inside
    assert (difference.flipped, difference.object_logit, difference.predicted_iou) == (0, 0.0, 0.0)


def test_it_gives_the_fast_engines_masks_in_lanes() -> None:
    model = models.embedded()
    jobs: list[tuple[v.MemorySource, Sequence[TrackedObject], Direction]] = [
        (v.MemorySource(model, v.video(4, seed=seed)), mixed(4)[:2], direction)
        for seed, direction in enumerate(("both", "forward"))
    ]
    for one, (source, objects, direction) in zip(run_together(reference(model, lanes=2), jobs), jobs, strict=True):
        compare.frames_alike(one, Engine(model).propagate(source, objects, direction=direction)).check()


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_either_engine_continues_a_checkpoint_of_the_reference(direction: Direction) -> None:
    model = models.random_model(1)
    source = v.MemorySource(model, v.video(8))
    objects = [v.tracked(4, f2=v.prompt("click")), v.tracked(1, f3=v.prompt("box"), f6=v.prompt("mask"))]
    whole = list(reference(model).propagate(source, objects, direction=direction))
    with reference(model).propagate(source, objects, direction=direction) as first:
        head = list(itertools.islice(first, 3))
        state = first.checkpoint()
    bits_alike(whole, [*head, *reference(model).propagate(source, objects, direction=direction, resume=state)])
    compare.frames_alike(whole[3:], Engine(model).propagate(source, objects, direction=direction, resume=state)).check()


class OnlyRead:
    """A source that counts how often each frame is read."""

    def __init__(self, model: LoadedModel, frames: int) -> None:
        self._source = v.MemorySource(model, v.video(frames))
        self.height, self.width = self._source.height, self._source.width
        self.reads: list[int] = []

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        for t, pixels in self._source.forward(start):
            self.reads.append(t)
            yield t, pixels

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return self._source.backward(start)

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return self._source.at(indices)


def test_its_memory_is_bounded_and_each_frame_is_read_once() -> None:
    model = models.random_model(1)
    source, objects = OnlyRead(model, 26), [v.tracked(n, f0=v.prompt("click")) for n in range(2)]
    with reference(model).propagate(source, objects) as frames:
        sizes = [len(frames.checkpoint()) for _ in frames]
    assert source.reads == list(range(26))
    assert max(sizes[18:]) - min(sizes[18:]) < 1000


def test_bfloat16_runs_under_autocast() -> None:
    model = models.embedded()
    source, objects = v.MemorySource(model, v.video(4)), [v.tracked(0, f0=v.prompt("box"))]
    exact = list(reference(model).propagate(source, objects))
    half = Engine(model, stepper=ReferenceStepper(model, dtype=torch.bfloat16)).propagate(source, objects)
    for one, other in zip(exact, half, strict=True):
        assert not torch.equal(one.logits, other.logits)
        assert ((one.logits > 0) != (other.logits > 0)).float().mean() < 0.01
