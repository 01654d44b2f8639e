"""Frames before the first changed one stay as they are, and tracking continues before it as in a full relabel."""

import itertools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import AfterEndError
from pipeline.labels.changes import NO_FRAME, first_changed_frame
from pipeline.labels.key import Parameters
from pipeline.manifest import Prompt
from pipeline.tracking import Engine, TrackedFrame
from pipeline.tracking.stepping import LoadedModel
from pipeline.workers.prompts import resolve_prompts
from tests.tracking import models
from tests.tracking import videos as v

FRAMES = 20
ALL = Parameters()
CAUSAL = Parameters(max_conditioning_frames=2)


def index_at(times: Sequence[float]) -> list[int]:
    """Ten frames a second."""
    frames = [int(time * 10 + 1e-6) for time in times]
    if any(frame >= FRAMES for frame in frames):
        raise AfterEndError("after the end")
    return frames


def on(frame: int, object_id: int = 1, **given: Any) -> Prompt:
    """A box; `at` moves it."""
    at = given.pop("at", 0) + 10 * object_id
    return Prompt(object_id=object_id, frame_index=frame, box=(at, at, at + 30.0, at + 25.0), **given)


def fix(frame: int, object_id: int = 1, x: float = 50.0, label: int = 1, **given: Any) -> Prompt:
    return Prompt(object_id=object_id, frame_index=frame, points=((x, 40.0, label),), correct=True, **given)


def changed(old: Sequence[Prompt], new: Sequence[Prompt], parameters: Parameters = ALL, **given: Any) -> Any:
    return first_changed_frame(old, new, parameters, index_at=index_at, **given)


ONE = [on(0)]
TWO = [on(0), on(4, 2)]
EDITS: dict[str, tuple[list[Prompt], list[Prompt], int | None, int | None]] = {
    "a correction": (ONE, [*ONE, fix(7)], 7, 7),
    "a moved correction": ([*ONE, fix(7)], [*ONE, fix(7, x=60)], 7, 7),
    "a correction on another frame": ([*ONE, fix(9)], [*ONE, fix(7)], 7, 7),
    "a removed correction": ([*ONE, fix(7), fix(9)], [*ONE, fix(7)], 9, 9),
    "corrections of two objects": (TWO, [*TWO, fix(12), fix(9, 2)], 9, 9),
    "a later prompt": (ONE, [*ONE, on(7)], None, 7),
    "a changed later prompt": ([*ONE, on(7)], [*ONE, on(7, at=3)], None, 7),
    "a later prompt that becomes a correction": ([*ONE, on(7)], [*ONE, fix(7)], None, 7),
    "a later prompt of the second object": (TWO, [*TWO, on(7, 2)], 4, 7),
    "the first prompt": (ONE, [on(0, at=3)], None, None),
    "the first prompt of the second object": (TWO, [on(0), on(4, 2, at=3)], 4, 4),
    "an earlier first prompt": ([on(3)], [on(2)], None, None),
    "an earlier first prompt of the second object": (TWO, [on(0), on(2, 2)], 2, 2),
    "an object that begins later": (ONE, [*ONE, on(6, 5)], 6, 6),
    "an object with a lower id that begins later": ([on(0, 3)], [on(0, 3), on(6, 1)], 6, 6),
    "an object that begins first": ([on(3)], [on(3), on(1, 2)], None, None),
    "a removed object": (TWO, [on(0)], 4, 4),
    "the object that begins first, removed": (TWO, [on(4, 2)], None, None),
    "all other objects": (ONE, [on(0, 2)], None, None),
    "an end": (ONE, [on(0, until_frame=8)], 8, 8),
    "another end": ([on(0, until_frame=8)], [on(0, until_frame=6)], 6, 6),
    "no end": ([on(0, until_frame=8)], ONE, 8, 8),
    "an end as a time": (ONE, [on(0, until_s=0.8)], 8, 8),
    "an end after the video": (ONE, [on(0, until_s=50)], NO_FRAME, NO_FRAME),
    "an end before a later prompt": ([on(0), on(9)], [on(0, until_frame=6), on(9)], None, 6),
    "another beginning after an end": ([on(0, until_frame=6), on(9)], [on(0, until_frame=6), on(11)], 9, 9),
    "a prompt after an end": ([on(0, until_frame=6)], [on(0, until_frame=6), on(9)], 9, 9),
    "a correction after an end": ([on(0, until_frame=6), on(9)], [on(0, until_frame=6), on(9), fix(12)], 12, 12),
    "a category": (ONE, [on(0, category="cat")], NO_FRAME, NO_FRAME),
    "another order": (TWO, TWO[::-1], NO_FRAME, NO_FRAME),
    "a frame as a time": (ONE, [Prompt(object_id=1, time_s=0.0, box=ONE[0].box)], NO_FRAME, NO_FRAME),
}
"""Old and new prompts, and the first changed frame with all prompted frames and with the latest two."""


@pytest.mark.parametrize("name", EDITS)
def test_the_first_changed_frame_of_each_kind_of_edit(name: str) -> None:
    old, new, expected, causal = EDITS[name]
    assert changed(old, new) == expected
    assert changed(old, new, CAUSAL) == causal
    for never in (Parameters(direction="backward"), Parameters(direction="both"), Parameters(retire_after_s=5)):
        assert changed(old, new, never) is None


def test_the_rule_was_written_for_every_parameter_and_field_of_a_prompt() -> None:
    """For a new one, decide in labels/changes.py whether earlier frames then depend on later prompts."""
    assert {field.name for field in fields(Parameters)} == {
        *("direction", "dtype", "mask_threshold", "max_hole_area", "max_sprinkle_area", "non_overlapping"),
        *("max_conditioning_frames", "retire_after_s"),
    }
    assert {field.name for field in fields(Prompt)} == {
        *("object_id", "frame_index", "time_s", "points", "box", "mask", "category"),
        *("correct", "until_frame", "until_s"),
    }


def test_a_prompt_off_the_grid_of_a_label_rate_changes_every_frame() -> None:
    def third(frame: int) -> bool:
        return frame % 3 == 0

    assert changed(ONE, [*ONE, fix(9)], on_grid=third) == 9
    assert changed(ONE, [*ONE, fix(7)], on_grid=third) is None
    assert changed([*ONE, fix(7)], [*ONE, fix(7, x=60)], on_grid=third) == 7


def track(
    model: LoadedModel, prompts: Sequence[Prompt], parameters: Parameters, branch: bytes | None = None
) -> tuple[list[TrackedFrame], dict[int, bytes]]:
    """The frames, and the state before each frame that follows a tracked one."""
    source = v.MemorySource(model, v.video(FRAMES))
    objects = resolve_prompts(prompts, height=v.HEIGHT, width=v.WIDTH, index_at=index_at)
    found, states = [], {}
    most = parameters.max_conditioning_frames
    with Engine(model).propagate(source, objects, max_conditioning_frames=most, branch=branch) as frames:
        for frame in frames:
            found.append(frame)
            if frames.can_branch:
                states[frame.frame_index + 1] = frames.branch_state()
    return found, states


def equal(one: Sequence[TrackedFrame], other: Sequence[TrackedFrame]) -> None:
    """Fails unless these frames are the same, bit by bit."""
    for a, b in itertools.zip_longest(one, other):
        assert a is not None
        assert b is not None
        assert (a.frame_index, a.object_ids, a.is_prompted) == (b.frame_index, b.object_ids, b.is_prompted)
        for name in ("logits", "object_logit", "predicted_iou"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0, equal_nan=True)


def check_edit(model: LoadedModel, old: Sequence[Prompt], new: Sequence[Prompt], parameters: Parameters) -> None:
    """Hold the rule and the states of the old labels against a full relabel."""
    first = changed(old, new, parameters)
    if first is None:
        return
    before, states = track(model, old, parameters)
    after, _ = track(model, new, parameters)
    equal([f for f in before if f.frame_index < first], [f for f in after if f.frame_index < first])
    for start, state in states.items():
        if start < first:
            branched, _ = track(model, new, parameters, branch=state)
            equal(branched, [f for f in after if f.frame_index >= start])


@pytest.mark.parametrize("parameters", [ALL, CAUSAL], ids=["all prompts", "latest prompts"])
@pytest.mark.parametrize("name", EDITS)
def test_every_kind_of_edit_continues_as_a_full_relabel(name: str, parameters: Parameters) -> None:
    old, new, *_ = EDITS[name]
    check_edit(models.random_model(1), old, new, parameters)


@st.composite
def prompts(draw: st.DrawFn) -> list[Prompt]:
    """Up to three objects with prompts, corrections and ends."""
    found = []
    for object_id in draw(st.sets(st.integers(1, 4), min_size=1, max_size=3)):
        start = draw(st.integers(0, 8))
        found.append(on(start, object_id, at=draw(st.integers(0, 1))))
        for frame in draw(st.sets(st.integers(start + 1, FRAMES - 1), max_size=2)):
            make = draw(st.sampled_from([on, fix]))
            found.append(make(frame, object_id))
    return found


@st.composite
def edits(draw: st.DrawFn) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts, and these with some removed, some of others added, or an end."""
    old = draw(prompts())
    others = draw(prompts())
    kept = [prompt for prompt in old if not prompt.correct or draw(st.booleans())]
    places = {(prompt.object_id, prompt.frame_index) for prompt in kept}
    begun = {prompt.object_id for prompt in kept}
    added = [
        prompt
        for prompt in others
        if (prompt.object_id, prompt.frame_index) not in places
        and (prompt.object_id in begun) == prompt.correct
        and draw(st.booleans())
    ]
    starts = {p.object_id: p.frame_index for p in kept + added if not p.correct}
    new = kept + [p for p in added if not p.correct or (p.frame_index or 0) > (starts.get(p.object_id) or 0)]
    if draw(st.booleans()):
        last = max(p.frame_index or 0 for p in new if p.object_id == new[0].object_id)
        new[0] = on(new[0].frame_index or 0, new[0].object_id, until_frame=last + draw(st.integers(1, 5)))
    return old, new


@pytest.mark.slow
@settings(max_examples=60)
@given(edit=edits(), causal=st.booleans(), embedded=st.booleans())
def test_any_edit_continues_as_a_full_relabel(
    edit: tuple[list[Prompt], list[Prompt]], causal: bool, embedded: bool
) -> None:
    model = models.embedded() if embedded else models.random_model(1)
    check_edit(model, *edit, CAUSAL if causal else ALL)


def test_a_state_of_other_objects_or_a_damaged_one_is_refused() -> None:
    model = models.random_model(1)
    _, states = track(model, TWO, ALL)
    state = states[max(t for t in states if t < 15)]
    for wanted in ([on(0)], [*TWO, on(5, 7)], [on(1), on(4, 2)]):
        with pytest.raises(ValueError, match="other objects"):
            track(model, wanted, ALL, branch=state)
    with pytest.raises(ValueError, match="damaged"):
        track(model, TWO, CAUSAL, branch=state)
    for place in (0, 8, 200, len(state) - 1):
        with pytest.raises(ValueError):  # noqa: PT011 - the JSON, the tensors and the state have each their own message
            track(model, TWO, ALL, branch=state[:place])
