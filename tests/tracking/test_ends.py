"""An object that ends has the rows of transformers' loop over its own frames, and costs nothing after its end."""

from dataclasses import replace

import pytest

from pipeline.tracking import Direction, Engine, TrackedObject
from tests.tracking import compare, models
from tests.tracking import videos as v

CLICK, BOX, MASK = (v.prompt(kind) for kind in ("click", "box", "mask"))


def appearances() -> list[TrackedObject]:
    """Object 1 ends and begins again at once, object 2 after a while; object 3 never ends."""
    return [
        TrackedObject(object_id=1, prompts={2: CLICK, 4: BOX}, corrections={3: CLICK}, end=6),
        TrackedObject(object_id=1, prompts={6: MASK}, first=6, end=9),
        TrackedObject(object_id=2, prompts={4: BOX}, end=5),
        TrackedObject(object_id=2, prompts={9: CLICK}, first=9),
        v.tracked(3, f4=MASK),
    ]


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_equals_transformers_on_its_own_frames(direction: Direction) -> None:
    objects = appearances()
    if direction == "backward":
        objects[0] = replace(objects[0], prompts={4: BOX}, corrections={3: CLICK})
    for model in (models.random_model(1), models.embedded()):
        compare.to_transformers(model, v.video(12), objects, direction).check()


def test_frames_without_an_object_are_not_tracked_and_after_the_last_not_read() -> None:
    sam2 = models.random_model(1)
    source = v.MemorySource(sam2, v.video(40))
    objects = [replace(v.tracked(1, f1=CLICK), end=3), TrackedObject(object_id=1, prompts={7: BOX}, first=7, end=18)]
    frames = list(Engine(sam2).propagate(source, objects))
    assert [f.frame_index for f in frames] == [1, 2, *range(7, 18)]
    assert source.read == 17
    source.read = 0
    frames = list(Engine(sam2).propagate(source, objects, direction="both"))
    assert [f.frame_index for f in frames] == [1, 2, *range(7, 18), 0]
    assert source.read == 18


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_checkpoint_of_objects_that_end_continues_bit_by_bit(direction: Direction) -> None:
    sam2, objects = models.random_model(1), appearances()
    if direction == "backward":
        objects[0] = replace(objects[0], prompts={4: BOX}, corrections={3: CLICK})
    source = v.MemorySource(sam2, v.video(12))
    whole = list(Engine(sam2).propagate(source, objects, direction=direction))
    for stop in range(1, len(whole), 3):
        with Engine(sam2).propagate(source, objects, direction=direction) as first:
            head = [next(first) for _ in range(stop)]
            state = first.checkpoint()
        tail = list(Engine(sam2).propagate(source, objects, direction=direction, resume=state))
        assert compare.frames_alike(whole, head + tail).flipped == 0
    with pytest.raises(ValueError, match="other objects"):
        Engine(sam2).propagate(source, [replace(objects[0], end=7), *objects[2:]], direction=direction, resume=state)


def test_objects_that_ended_are_not_in_the_checkpoint() -> None:
    sam2 = models.random_model(1)
    source = v.MemorySource(sam2, v.video(12))
    sizes = []
    for ends in (None, 4):
        with Engine(sam2).propagate(
            source, [replace(v.tracked(n, f0=CLICK), end=ends if n else None) for n in range(5)]
        ) as run:
            for _ in range(9):
                next(run)
            sizes.append(len(run.checkpoint()))
    assert sizes[1] < sizes[0] / 4


def test_prompts_outside_an_objects_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt on frame 5, outside its frames 0 to 4"):
        TrackedObject(object_id=1, prompts={0: CLICK, 5: BOX}, end=5)
    with pytest.raises(ValueError, match="prompt on frame 2, outside its frames 3 to the end"):
        TrackedObject(object_id=1, prompts={3: CLICK}, corrections={2: BOX}, first=3)
    with pytest.raises(ValueError, match="unique on each frame"):
        Engine(models.random_model(1)).propagate(
            v.MemorySource(models.random_model(1), v.video(3)),
            [TrackedObject(object_id=1, prompts={0: CLICK}, end=3), TrackedObject(object_id=1, prompts={2: BOX})],
        )
