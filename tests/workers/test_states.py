"""A relabel continues from a kept state of the earlier labels, to the labels of a full one; in this process, no Ray."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from pipeline.errors import InterruptedLabelingError, PromptError
from pipeline.labels import Part, read_part
from pipeline.labels.key import Parameters, label_key
from pipeline.manifest import digest_records, read_manifest
from pipeline.storage import Store, part_path
from pipeline.storage.paths import states_dir, states_index_path
from pipeline.workers.kept import FIRST_SPACING, Intervals, spacing, thinned
from pipeline.workers.labeler import Labeler
from pipeline.workers.task import LabelerSettings, Outcome, Task
from tests import labelling
from tests.clips import green, point, red, write_clip, write_manifest

FRAMES = 60
PROMPTS = [red(), green(4)]
FIX = {"object_id": 1, "frame_index": 37, "points": [point(50, 19, 0)], "correct": True}
KEPT = 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_clip(path, frames=FRAMES)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> LabelerSettings:
    return labelling.settings(tmp_path / "out", keep_states=KEPT, on_damaged="label")


def task(
    settings: LabelerSettings, clip: Path, prompts: list[dict[str, Any]], *, earlier: Task | None = None, **given: Any
) -> Task:
    """A task with its label key, as the driver makes it; `earlier` is that of the published labels."""
    rows = [{"video_id": "v", "video_uri": str(clip), "prompts": prompts}]
    manifest = read_manifest(write_manifest(Path(settings.output).parent / "manifest.parquet", rows))
    made = labelling.task_of(manifest.video(0))
    (digest,) = digest_records([manifest.table["prompts"][0].as_py()])
    made = replace(made, prompts_digest=digest, earlier_key=earlier.label_key if earlier else None, **given)
    key = label_key(
        version=made.version,
        start_s=None,
        end_s=None,
        prompts=digest,
        weights=settings.weights_digest,
        parameters=settings.parameters.to_json(),
        label_rate=made.label_rate,
    )
    return replace(made, label_key=key)


def label(settings: LabelerSettings, wanted: Task) -> tuple[Outcome, Part]:
    done = Labeler(settings).label(wanted)
    return done, read_part(f"{settings.output}/{part_path('v', wanted.label_key)}")


def elsewhere(settings: LabelerSettings, name: str = "full") -> LabelerSettings:
    """The same settings for another output, which has no states."""
    return replace(settings, output=f"{settings.output}-{name}")


def equal(part: Part, full: Part) -> None:
    """Fails unless both have the same masks, scores and measures, bit by bit."""
    assert part.masks.equals(full.masks)
    assert part.masklets.equals(full.masklets)
    for name in (
        "frames",
        "prompts",
        "prompts_digest",
        "mask_rows",
        "objects",
        "doubt",
        "damaged_packets",
        "truncated",
    ):
        assert part.video[name].equals(full.video[name]), name


def store_of(settings: LabelerSettings) -> Store:
    return Store(settings.output)


def test_a_correction_tracks_only_frames_after_the_last_state_before_it(settings: LabelerSettings, clip: Path) -> None:
    first = task(settings, clip, PROMPTS)
    done, plain = label(settings, first)
    assert (done.frames, plain.video["relabelled_from"].to_pylist()) == (FRAMES, [None])
    fixed = task(settings, clip, [*PROMPTS, FIX], earlier=first)
    done, part = label(settings, fixed)
    start = part.video["relabelled_from"][0].as_py()
    assert FIX["frame_index"] - FIRST_SPACING - 8 <= start <= FIX["frame_index"] - 1
    assert done.frames == FRAMES - start
    full_settings = elsewhere(settings)
    full_done, full = label(full_settings, task(full_settings, clip, [*PROMPTS, FIX], earlier=first))
    assert (full_done.frames, full.video["relabelled_from"].to_pylist()) == (FRAMES, [None])
    equal(part, full)
    changed = pc.field("frame_index") >= FIX["frame_index"]
    assert not part.masks.filter(changed)["counts"].equals(plain.masks.filter(changed)["counts"])

    again = {**FIX, "frame_index": 21}  # from a state that was taken over from the first labels
    twice = task(settings, clip, [*PROMPTS, FIX, again], earlier=fixed)
    done, part = label(settings, twice)
    assert 0 < FRAMES - done.frames < 21
    equal(part, label(full_settings, task(full_settings, clip, [*PROMPTS, FIX, again]))[1])


@pytest.mark.parametrize(
    ("changed", "edited"),
    [
        ({"parameters": Parameters(max_conditioning_frames=4)}, [*PROMPTS, green(30)]),
        ({}, [red(until_frame=40), green(4)]),
        ({}, [*PROMPTS, red(33, object_id=5)]),
        ({"parameters": Parameters(non_overlapping=True, max_hole_area=9)}, [*PROMPTS, FIX]),
        ({"check_drift": True}, [*PROMPTS, FIX]),
    ],
    ids=["a later prompt, conditioned on the latest", "an end", "a new object", "without overlap", "with drift"],
)
def test_other_changes_and_settings_continue_as_a_full_relabel(
    settings: LabelerSettings, clip: Path, changed: dict[str, Any], edited: list[dict[str, Any]]
) -> None:
    settings = replace(settings, **changed)
    first = task(settings, clip, PROMPTS)
    label(settings, first)
    done, part = label(settings, task(settings, clip, edited, earlier=first))
    assert done.frames < FRAMES - 16
    full = elsewhere(settings)
    equal(part, label(full, task(full, clip, edited))[1])


def test_a_label_rate_continues_where_no_labelled_frame_is_added(settings: LabelerSettings, clip: Path) -> None:
    first = task(settings, clip, [red()], label_rate="2f")
    label(settings, first)
    on_grid, off_grid = ([red(), {**FIX, "frame_index": frame}] for frame in (44, 45))
    done, part = label(settings, task(settings, clip, on_grid, earlier=first, label_rate="2f"))
    assert done.frames < FRAMES / 2 - 8
    full = elsewhere(settings)
    equal(part, label(full, task(full, clip, on_grid, label_rate="2f"))[1])
    done, _ = label(settings, task(settings, clip, off_grid, earlier=first, label_rate="2f"))
    assert done.frames == FRAMES / 2 + 1


def test_a_relabel_that_is_interrupted_continues_from_its_checkpoint(settings: LabelerSettings, clip: Path) -> None:
    first = task(settings, clip, PROMPTS)
    label(settings, first)
    wanted = task(settings, clip, [*PROMPTS, FIX], earlier=first, resume=True)
    often = replace(settings, checkpoint_every_s=0.0)
    for frames in (3, 9):
        labeler = stopping_after(frames, often)
        with pytest.raises(InterruptedLabelingError):
            labeler.label(wanted)
    done, part = label(settings, wanted)
    assert done.frames < FRAMES - part.video["relabelled_from"][0].as_py() - 8
    full = elsewhere(settings)
    equal(part, label(full, task(full, clip, [*PROMPTS, FIX]))[1])
    assert not list(store_of(settings).list("checkpoints"))
    later = {**FIX, "frame_index": 55}
    last = task(settings, clip, [*PROMPTS, FIX, later], earlier=wanted)
    done, part = label(settings, last)
    assert done.frames < 30
    equal(part, label(full, task(full, clip, [*PROMPTS, FIX, later]))[1])


def stopping_after(frames: int, settings: LabelerSettings) -> Labeler:
    seen: list[int] = []
    made: list[Labeler] = []

    def stop(frame: int) -> None:
        seen.append(frame)
        if len(seen) == frames:
            made[0].stop()

    made.append(Labeler(settings, on_frame=stop))
    return made[0]


def flip(data: bytes, place: int) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def delete_index(store: Store, key: str) -> None:
    store.delete(states_index_path("v", key))


def damage_index(store: Store, key: str) -> None:
    text = store.read(states_index_path("v", key))
    store.put(states_index_path("v", key), text.replace(b'"before": 2', b'"before": 1'))


def other_format(store: Store, key: str) -> None:
    record = json.loads(store.read(states_index_path("v", key)))
    store.put(states_index_path("v", key), json.dumps({**record, "format": 99}).encode())


def damage_states(store: Store, key: str) -> None:
    for entry in list(store.list(states_dir("v", key))):
        if entry.path.endswith(".state"):
            store.put(entry.path, flip(store.read(entry.path), -9))


def delete_states(store: Store, key: str) -> None:
    store.delete_many([e.path for e in store.list(states_dir("v", key)) if e.path.endswith(".state")])


def other_part(store: Store, key: str) -> None:
    store.put(part_path("v", key), flip(store.read(part_path("v", key)), 500))


def delete_part(store: Store, key: str) -> None:
    store.delete(part_path("v", key))


@pytest.fixture(scope="module")
def labelled(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelerSettings, Task, Part]:
    """Labels with states, and those of a full relabel with a correction."""
    settings = labelling.settings(tmp_path_factory.mktemp("labelled") / "out", keep_states=KEPT, on_damaged="label")
    first = task(settings, clip, PROMPTS)
    label(settings, first)
    full = elsewhere(settings)
    return settings, first, label(full, task(full, clip, [*PROMPTS, FIX]))[1]


@pytest.mark.parametrize(
    "spoil", [delete_index, damage_index, other_format, damage_states, delete_states, other_part, delete_part]
)
def test_states_that_cannot_be_used_cost_a_full_relabel_and_a_log_line(
    labelled: tuple[LabelerSettings, Task, Part], clip: Path, tmp_path: Path, spoil: Any, caplog: Any
) -> None:
    kept, first, full = labelled
    settings = replace(kept, output=str(tmp_path / "out"))
    for entry in store_of(kept).list():
        store_of(settings).put(entry.path, store_of(kept).read(entry.path))
    spoil(store_of(settings), first.label_key)
    with caplog.at_level(logging.INFO):
        done, part = label(settings, task(settings, clip, [*PROMPTS, FIX], earlier=first))
    assert "is labelled in full" in caplog.text
    assert (done.frames, part.video["relabelled_from"].to_pylist()) == (FRAMES, [None])
    equal(part, full)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parameters": Parameters(mask_threshold=0.5)}, "more than its prompts"),
        ({"engine": "reference"}, "another device, engine"),
    ],
    ids=["other parameters", "another engine"],
)
def test_states_of_other_settings_or_another_engine_are_not_used(
    labelled: tuple[LabelerSettings, Task, Part], clip: Path, changed: dict[str, Any], said: str, caplog: Any
) -> None:
    kept, first, _ = labelled
    settings = replace(kept, **changed)
    with caplog.at_level(logging.INFO):
        done, _ = label(settings, task(settings, clip, [red(), FIX], earlier=first))
    assert said in caplog.text
    assert done.frames == FRAMES


def test_a_new_prompt_on_the_first_frame_or_after_the_end_is_not_continued(
    labelled: tuple[LabelerSettings, Task, Part], clip: Path
) -> None:
    settings, first, _ = labelled
    done, _ = label(settings, task(settings, clip, [red(5), green(4)], earlier=first))
    assert done.frames == FRAMES - 4
    with pytest.raises(PromptError, match="frame 99 is beyond the end"):
        label(settings, task(settings, clip, [*PROMPTS, {**FIX, "frame_index": 99}], earlier=first))


def test_without_the_option_no_state_is_written(settings: LabelerSettings, clip: Path) -> None:
    plain = replace(settings, keep_states=0)
    label(plain, task(plain, clip, PROMPTS))
    back = replace(settings, parameters=Parameters(direction="both"))
    label(back, task(back, clip, PROMPTS))
    assert not store_of(plain).is_folder("states")


@pytest.mark.parametrize("most", [2, 3, 16])
@pytest.mark.parametrize("batch", [1, 5])
def test_states_of_any_length_are_bounded_and_evenly_spaced(most: int, batch: int) -> None:
    intervals, kept = Intervals(most=most), []
    for frames in range(1, 5000):
        if intervals.due(usable=frames % batch == 0):
            kept = thinned([*kept, frames], most)
        assert len(kept) <= most
        gaps = [b - a for a, b in zip([0, *kept], [*kept, frames], strict=True)]
        assert max(gaps) <= 2 * spacing(frames, most) + batch
    assert spacing(4999, most) <= 2 * 4999 / most
