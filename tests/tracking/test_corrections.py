"""Corrections of a tracked mask equal transformers' session: tracked up to the frame, then run with the new points."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipeline.errors import PromptError
from pipeline.tracking import Direction, Engine, FramePrompt, TrackedObject
from tests.tracking import compare, models
from tests.tracking import videos as v

OFF = v.click((0.5 * v.WIDTH, 0.5 * v.HEIGHT, 0))
ON = v.click((0.6 * v.WIDTH, 0.4 * v.HEIGHT, 1))
BOTH = v.click((0.6 * v.WIDTH, 0.4 * v.HEIGHT, 1), (0.3 * v.WIDTH, 0.7 * v.HEIGHT, 0))
BOX = v.box(40, 20, 100, 70)


def corrected(object_id: int, start: int, corrections: Mapping[int, FramePrompt], kind: str = "click") -> TrackedObject:
    return TrackedObject(object_id=object_id, prompts={start: v.prompt(kind)}, corrections=corrections)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_equal_transformers(direction: Direction) -> None:
    after, before = {5: OFF, 7: BOX}, {1: BOTH}
    reached = {"forward": after, "backward": before, "both": before | after}[direction]
    objects = [
        corrected(0, 3, reached),
        corrected(1, 3, dict.fromkeys(reached, ON), "mask"),
        v.tracked(2, f3=v.prompt("box")),
    ]
    for model in (models.random_model(1), models.embedded()):
        compare.to_transformers(model, v.video(10), objects, direction).check()


def test_they_change_only_later_frames_of_their_object() -> None:
    engine, source = Engine(sam2 := models.embedded()), v.MemorySource(models.embedded(), v.video(8))
    assert sam2.image_size == engine.image_size
    plain = [v.tracked(0, f0=v.prompt("box")), v.tracked(1, f0=v.prompt("click"))]
    said = [corrected(0, 0, {4: v.click((2, 2, 1))}, "box"), plain[1]]
    for one, other in zip(engine.propagate(source, plain), engine.propagate(source, said), strict=True):
        assert other.is_prompted[0] == (other.frame_index in (0, 4))
        assert torch.equal(one.logits[0], other.logits[0]) == (one.frame_index < 4)
        assert torch.equal(one.logits[1] > 0, other.logits[1] > 0)


def test_lanes_and_checkpoints_keep_them() -> None:
    sam2 = models.embedded()
    engine = Engine(sam2, lanes=2)
    objects = [corrected(0, 0, {2: OFF, 6: BOX})]
    sources = [v.MemorySource(sam2, v.video(9, seed=seed)) for seed in range(2)]
    alone = [list(engine.propagate(source, objects)) for source in sources]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda source: list(engine.propagate(source, objects)), sources))
    for one, other in zip(alone, together, strict=True):
        compare.frames_alike(one, other).check()
    with engine.propagate(sources[0], objects) as broken_off:
        head = [next(broken_off) for _ in range(4)]
        state = broken_off.checkpoint()
    resumed = list(engine.propagate(sources[0], objects, resume=state))
    assert compare.frames_alike(alone[0], head + resumed).flipped == 0


def test_what_cannot_be_corrected_is_refused() -> None:
    sam2 = models.random_model(1)
    source = v.MemorySource(sam2, v.video(6))
    for direction, frame in (("forward", 1), ("backward", 4)):
        with pytest.raises(PromptError, match=f"correction on frame {frame}.*does not reach"):
            Engine(sam2).propagate(source, [corrected(0, 2, {frame: ON})], direction=direction)
    with pytest.raises(PromptError, match="frame 9, but the video ends"):
        next(Engine(sam2).propagate(source, [corrected(0, 2, {9: ON})]))
    with pytest.raises(ValueError, match="mask needs no correction"):
        corrected(0, 2, {3: v.prompt("mask")})
    with pytest.raises(ValueError, match="on one frame"):
        corrected(0, 2, {2: ON})
