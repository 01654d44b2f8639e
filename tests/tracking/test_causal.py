"""Prompts that are decided while tracking give the masks of the same prompts in a manifest, bit by bit."""

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from pipeline.errors import PromptError
from pipeline.manifest.ends import appearances
from pipeline.tracking import Direction, Engine, FramePrompt, TrackedFrame, TrackedObject
from pipeline.tracking.decisions import Decision
from tests.tracking import models
from tests.tracking import videos as v

SAM2 = models.random_model(1)
SCRIPT: dict[int, dict[int, FramePrompt]] = {
    2: {1: v.prompt("box")},
    5: {1: v.prompt("click"), 2: v.prompt("mask")},
    6: {1: v.prompt("box"), 3: v.prompt("box")},
    7: {1: v.prompt("click")},
    9: {2: v.prompt("box"), 1: v.prompt("mask")},
    10: {1: v.prompt("box")},
    11: {1: v.prompt("clicks"), 3: v.prompt("box")},
}
ENDS = {8: [1, 3]}
"""Objects 1 and 3 end after frame 8; 1 begins again on the next frame, 3 on frame 11."""
FRAMES = 14


class Scripted:
    """Decides what the script says; remembers what it was shown."""

    def __init__(self, script: Mapping[int, Mapping[int, FramePrompt]], ends: Mapping[int, Sequence[int]] = {}) -> None:
        self.first = min({*script, *ends}, default=None)
        self.shown: dict[int, tuple[int, ...]] = {}
        self._script, self._ends = script, ends

    def looks_at(self, frame: int) -> bool:
        return frame in self._script or frame in self._ends

    def decide(self, frame: int, tracked: TrackedFrame | None) -> Decision:
        self.shown[frame] = tracked.object_ids if tracked else ()
        return Decision(prompts=self._script.get(frame, {}), ended=self._ends.get(frame, ()))

    def state(self) -> dict[str, Any]:
        return {"shown": [[frame, list(ids)] for frame, ids in self.shown.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.shown = {frame: tuple(ids) for frame, ids in state["shown"]}


def objects_of(
    script: Mapping[int, Mapping[int, FramePrompt]], ends: Mapping[int, Sequence[int]]
) -> list[TrackedObject]:
    """The script as the prompts of a manifest."""
    ids = sorted({object_id for prompts in script.values() for object_id in prompts})
    return [
        TrackedObject(
            object_id=object_id, prompts={t: script[t][object_id] for t in each.prompts}, first=each.first, end=each.end
        )
        for object_id in ids
        for each in appearances(
            [t for t, prompts in script.items() if object_id in prompts],
            [],
            [frame + 1 for frame, ended in ends.items() if object_id in ended],
        )
    ]


def assert_equal(expected: Sequence[TrackedFrame], got: Sequence[TrackedFrame]) -> None:
    assert [f.frame_index for f in expected] == [f.frame_index for f in got]
    for one, other in zip(expected, got, strict=True):
        assert (one.object_ids, one.is_prompted) == (other.object_ids, other.is_prompted), one.frame_index
        for name in ("logits", "object_logit", "predicted_iou"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("kept", [1, 2, 4])
def test_decided_prompts_equal_given_ones_bit_by_bit(kept: int, direction: Direction) -> None:
    source, decider = v.MemorySource(SAM2, v.video(FRAMES)), Scripted(SCRIPT, ENDS)
    engine = Engine(SAM2)
    settings: Any = {"direction": direction, "max_conditioning_frames": kept}
    decided = list(engine.propagate(source, [], decider=decider, **settings))
    given = list(engine.propagate(source, objects_of(SCRIPT, ENDS), **settings))
    assert decider.shown[5] == (1,)
    assert decider.shown[9] == (2,)
    assert decider.shown[10] == (1, 2)
    assert_equal(given, decided)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_checkpoint_between_decisions_continues_bit_by_bit(direction: Direction) -> None:
    source, engine = v.MemorySource(SAM2, v.video(FRAMES)), Engine(SAM2)
    settings: Any = {"direction": direction, "max_conditioning_frames": 2}
    whole = list(engine.propagate(source, [], decider=Scripted(SCRIPT, ENDS), **settings))
    for stop in range(1, len(whole), 2):
        with engine.propagate(source, [], decider=Scripted(SCRIPT, ENDS), **settings) as first:
            head = list(itertools.islice(first, stop))
            state = first.checkpoint()
        again = Scripted(SCRIPT, ENDS)
        tail = list(engine.propagate(source, [], decider=again, resume=state, **settings))
        assert_equal(whole, head + tail)
        assert list(again.shown) == [2, 5, 6, 7, 8, 9, 10, 11]


def test_objects_that_are_given_and_decided_share_a_video() -> None:
    source, engine = v.MemorySource(SAM2, v.video(FRAMES)), Engine(SAM2)
    mine = v.tracked(0, f3=v.prompt("click"), f8=v.prompt("box"))
    decided = list(engine.propagate(source, [mine], decider=Scripted(SCRIPT), max_conditioning_frames=4))
    given = list(engine.propagate(source, [mine, *objects_of(SCRIPT, {})], max_conditioning_frames=4))
    assert_equal(given, decided)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_one_prompt_gives_what_ordinary_propagation_gives(direction: Direction) -> None:
    source, engine = v.MemorySource(SAM2, v.video(FRAMES)), Engine(SAM2)
    objects = [v.tracked(1, f3=v.prompt("box")), v.tracked(2, f5=v.prompt("mask"))]
    ordinary = list(engine.propagate(source, objects, direction=direction))
    causal = list(engine.propagate(source, objects, direction=direction, max_conditioning_frames=4))
    assert_equal(ordinary, causal)


def test_two_lanes_decide_as_one_does() -> None:
    sources = [v.MemorySource(SAM2, v.video(FRAMES, seed=seed)) for seed in (0, 1)]

    def masks(engine: Engine, source: v.MemorySource) -> list[torch.Tensor]:
        decider = Scripted(SCRIPT, ENDS)
        return [f.logits > 0 for f in engine.propagate(source, [], decider=decider, max_conditioning_frames=4)]

    alone = [masks(Engine(SAM2), source) for source in sources]
    shared = Engine(SAM2, lanes=2)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda source: masks(shared, source), sources))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_later_prompts_change_no_earlier_frame() -> None:
    source, engine = v.MemorySource(SAM2, v.video(FRAMES)), Engine(SAM2)
    early = [v.tracked(1, f1=v.prompt("box"))]
    late = [v.tracked(1, f1=v.prompt("box"), f6=v.prompt("click"))]
    one, other = (list(engine.propagate(source, o, max_conditioning_frames=4)) for o in (early, late))
    assert_equal(one[:5], other[:5])
    assert not torch.equal(one[7].logits, other[7].logits)


def test_conditioning_frames_are_bounded_whatever_the_number_of_prompts() -> None:
    source = v.MemorySource(SAM2, v.video(40))
    script = {t: {1: v.prompt("box")} for t in range(0, 40, 2)}
    with Engine(SAM2).propagate(
        source, [], decider=Scripted(script), direction="both", max_conditioning_frames=3
    ) as frames:
        sizes = [len(frames.checkpoint()) for _ in frames]
    assert sizes[-1] <= sizes[24] + 5_000  # a memory has 8 KiB


def test_a_video_without_decisions_has_no_frames() -> None:
    source = v.MemorySource(SAM2, v.video(5))
    assert not list(Engine(SAM2).propagate(source, [], decider=Scripted({}), max_conditioning_frames=4))
    assert source.read == 5


def test_prompts_beyond_the_end_are_refused_at_once() -> None:
    objects = [v.tracked(0, f0=v.prompt("click"), f7=v.prompt("click"))]
    with pytest.raises(PromptError, match="frame 7"):
        next(Engine(SAM2).propagate(v.MemorySource(SAM2, v.video(3)), objects, max_conditioning_frames=4))
