"""An object that is absent for long ends, and its next prompt begins it again."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.tracking import Direction, Engine, TrackedFrame, TrackedObject
from pipeline.tracking.merging import merge_passes
from pipeline.tracking.retirement import RetirementRule
from tests.tracking import models
from tests.tracking import videos as v

FRAMES, FPS = 26, 10
GONE, BACK = 8, 18
"""The first square is not on the frames from GONE to BACK - 1; the second one is on all frames."""
LAST = 12
"""The first frame that is absent and half a second after the last one with the square."""
SAM2 = models.embedded()


def rule(after_s: float = 0.5) -> RetirementRule:
    return RetirementRule(after_s=after_s, time_of=lambda frame: frame / FPS)


def source(*, seed: int = 0) -> v.MemorySource:
    """Two squares that move to the right."""
    ground = np.random.default_rng(seed).integers(60, 110, (v.HEIGHT, v.WIDTH, 3), np.uint8)
    frames = []
    for t in range(FRAMES):
        frame = ground.copy()
        if not GONE <= t < BACK:
            frame[10:34, 20 + t : 44 + t] = (230, 40, 40)
        frame[55:79, 20 + t : 44 + t] = (40, 220, 60)
        frames.append(frame)
    return v.MemorySource(SAM2, frames)


def first_at(frame: int) -> Any:
    return v.box(20 + frame, 10, 44 + frame, 34)


STAYS = v.tracked(2, f0=v.box(20, 55, 44, 79))
COMES_BACK = TrackedObject(object_id=1, prompts={0: first_at(0), BACK: first_at(BACK)})

Row = tuple[torch.Tensor, ...]


def rows(frames: Sequence[TrackedFrame]) -> dict[tuple[int, int], Row]:
    return {
        (object_id, f.frame_index): (f.logits[n], f.object_logit[n], f.predicted_iou[n])
        for f in frames
        for n, object_id in enumerate(f.object_ids)
    }


def assert_equal(one: dict[tuple[int, int], Row], other: dict[tuple[int, int], Row]) -> None:
    assert one.keys() == other.keys()
    for place, row in one.items():
        assert all(torch.equal(a, b) for a, b in zip(row, other[place], strict=True)), place


def assert_alike(one: dict[tuple[int, int], Row], other: dict[tuple[int, int], Row]) -> None:
    """Equal masks, and equal values to the rounding that depends on the number of objects in a batch."""
    assert one.keys() == other.keys()
    for place, row in one.items():
        assert torch.equal(row[0] > 0, other[place][0] > 0), place
        torch.testing.assert_close(row, other[place], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kept", [None, 4])
def test_rows_before_the_end_and_from_the_next_prompt_are_exact(kept: int | None) -> None:
    engine, run = Engine(SAM2), {"max_conditioning_frames": kept}
    retired = rows(list(engine.propagate(source(), [COMES_BACK, STAYS], retirement=rule(), **run)))
    plain = rows(list(engine.propagate(source(), [COMES_BACK, STAYS], **run)))
    later = TrackedObject(object_id=1, prompts={BACK: first_at(BACK)}, first=BACK)
    again = rows(list(engine.propagate(source(), [later, STAYS], **run)))
    assert [t for i, t in sorted(retired) if i == 1] == [*range(LAST + 1), *range(BACK, FRAMES)]
    until_then = {place for place in retired if place[1] <= LAST}
    assert_equal({p: retired[p] for p in until_then}, {p: plain[p] for p in until_then})
    other = {place for place in retired if place[0] == 2}
    assert_alike({p: retired[p] for p in other}, {p: plain[p] for p in other})
    from_then = [(1, t) for t in range(BACK, FRAMES)]
    # prompts that run before the pass share a batch with those of objects that begin on the same frame
    same = assert_alike if kept is None else assert_equal
    same({p: retired[p] for p in from_then}, {p: again[p] for p in from_then})
    assert not torch.equal(plain[1, BACK + 1][0], again[1, BACK + 1][0])


@pytest.mark.parametrize("kept", [None, 4])
def test_nothing_is_read_after_the_last_object_ended(kept: int | None) -> None:
    alone, run = v.tracked(1, f0=first_at(0)), {"max_conditioning_frames": kept}
    frames = source()
    retired = rows(list(Engine(SAM2).propagate(frames, [alone], retirement=rule(), **run)))
    ended = TrackedObject(object_id=1, prompts=alone.prompts, end=LAST + 1)
    assert_equal(retired, rows(list(Engine(SAM2).propagate(source(), [ended], **run))))
    assert frames.read < FRAMES
    never = rows(list(Engine(SAM2).propagate(source(), [alone], retirement=rule(5.0), **run)))
    assert len(never) == FRAMES


@pytest.mark.parametrize("kept", [None, 4])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_checkpoint_of_retired_objects_continues_bit_by_bit(direction: Direction, kept: int | None) -> None:
    objects = [COMES_BACK, STAYS]
    if direction != "forward":  # the later appearance is followed back across the gap, or until it ends there
        objects = [TrackedObject(object_id=1, prompts={BACK + 1: first_at(BACK + 1)}), STAYS]
    settings: Any = {"direction": direction, "max_conditioning_frames": kept, "retirement": rule(0.3)}
    whole = list(Engine(SAM2).propagate(source(), objects, **settings))
    for stop in range(1, len(whole), 4):
        with Engine(SAM2).propagate(source(), objects, **settings) as run:
            head = [next(run) for _ in range(stop)]
            state = run.checkpoint()
        tail = list(Engine(SAM2).propagate(source(), objects, resume=state, **settings))
        assert [f.frame_index for f in whole] == [f.frame_index for f in head + tail]
        assert_equal(rows(whole), rows(head + tail))
    with pytest.raises(ValueError, match="other objects"):
        Engine(SAM2).propagate(source(), objects, resume=state, **{**settings, "retirement": rule(0.7)})


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_backward_pass_ends_objects_by_the_same_rule(direction: Direction) -> None:
    begins = BACK + 1
    objects = [TrackedObject(object_id=1, prompts={begins: first_at(begins)}), STAYS]
    settings: Any = {"direction": direction}
    retired = rows(list(Engine(SAM2).propagate(source(), objects, retirement=rule(0.4), **settings)))
    plain = rows(list(Engine(SAM2).propagate(source(), objects, **settings)))
    last = BACK - 4
    assert [t for i, t in sorted(retired) if i == 1] == [
        t for t in range(FRAMES) if t >= last and (direction == "both" or t <= begins)
    ]
    assert_alike(retired, {p: row for p, row in plain.items() if p[0] == 2 or p[1] >= last})


def test_passes_are_merged_where_an_object_ended_backward() -> None:
    objects = [TrackedObject(object_id=1, prompts={BACK + 1: first_at(BACK + 1)}), v.tracked(2, f3=STAYS.prompts[0])]
    settings: Any = {"direction": "both", "retirement": rule(0.4)}
    frames = list(Engine(SAM2).propagate(source(), objects, **settings))
    merged = list(merge_passes(frames, last_start=BACK + 1))
    assert sorted(f.frame_index for f in merged) == [*range(FRAMES)]
    assert_equal(rows(frames), rows(merged))


def test_a_correction_that_lies_ahead_keeps_its_object() -> None:
    corrected = TrackedObject(object_id=1, prompts=COMES_BACK.prompts, corrections={15: first_at(15)})
    found = rows(list(Engine(SAM2).propagate(source(), [corrected, STAYS], retirement=rule())))
    plain = rows(list(Engine(SAM2).propagate(source(), [corrected, STAYS])))
    assert_equal(found, plain)


def test_two_lanes_retire_as_one_does() -> None:
    def run(engine: Engine, seed: int) -> list[tuple[int, tuple[int, ...], torch.Tensor]]:
        frames = engine.propagate(source(seed=seed), [COMES_BACK, STAYS], retirement=rule())
        return [(f.frame_index, f.object_ids, f.logits > 0) for f in frames]

    alone, shared = [run(Engine(SAM2), seed) for seed in (0, 1)], Engine(SAM2, lanes=2)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda seed: run(shared, seed), (0, 1)))
    for one, other in zip(alone, together, strict=True):
        assert [a[:2] for a in one] == [b[:2] for b in other]
        assert all(torch.equal(a[2], b[2]) for a, b in zip(one, other, strict=True))


def test_a_rule_without_time_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        rule(0.0)
