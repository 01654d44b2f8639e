"""Labels of some frames only: exports close no track between them, and evaluations score what is labelled."""

import json
from pathlib import Path

import pyarrow.compute as pc
import pytest

from pipeline.formats.cvat import read_cvat
from pipeline.formats.evaluate import evaluate, summarise
from pipeline.formats.export import export_labels
from pipeline.formats.registry import format_of
from pipeline.formats.sav import read_sav
from pipeline.formats.sources import SelectedMasks
from pipeline.formats.split import Splits
from pipeline.storage import Store
from tests.formats.conftest import FRAMES, Labels, labels_of, part


def at_a_rate(rate: str, frames: set[int], *, ended: int = FRAMES) -> tuple[Labels, Labels]:
    """The labels of one video at a rate, of which object 2 ends at a frame, and those of all its frames."""
    whole = labels_of(part("a", {1: "cat", 2: "dog"}, apart=True))
    chosen = pc.field("frame_index").isin(sorted(frames))
    chosen &= (pc.field("object_id") != 2) | (pc.field("frame_index") < ended)
    some = labels_of(part("a", {1: "cat", 2: "dog"}, apart=True, label_rate=rate))
    return some._replace(masks=some.masks.filter(chosen)), whole


def export(labels: Labels, name: str, target: Path, *, every: int = 1) -> Path:
    written = export_labels(labels.select(every=every), Store(target), format_of(name), splits=Splits.parse([]))
    assert not written.problems, written.problems
    (path,) = (path for path in target.rglob("*") if path.suffix in (".xml", ".json") and "train" in str(path.parent))
    return path


def test_cvat_tracks_are_closed_after_the_last_labelled_frame_only(target: Path) -> None:
    some, _ = at_a_rate("3f", {0, 3, 4, 6}, ended=6)  # frame 4 is prompted
    video = read_cvat(export(some, "cvat", target).read_bytes())
    shown = {one: [(s.frame_index, s.outside) for s in video.shapes if s.object_id == one] for one in (1, 2)}
    assert shown[1] == [(0, False), (3, False), (4, False), (6, False)]
    assert shown[2] == [(0, False), (3, False), (4, False), (6, True)]


def test_label_studio_keeps_objects_visible_between_labelled_frames(target: Path) -> None:
    some, _ = at_a_rate("12fps", {0, 2, 4, 6}, ended=4)  # 24 fps
    (task,) = json.loads(export(some, "label-studio", target).read_text())
    seen = {
        result["meta"]["object_id"]: [(key["frame"] - 1, key["enabled"]) for key in result["value"]["sequence"]]
        for result in task["predictions"][0]["result"]
    }
    assert seen == {1: [(0, True), (2, True), (4, True), (6, False)], 2: [(0, True), (2, False)]}


def test_sa_v_comes_straight_out_of_6_of_24_frames_a_second(target: Path) -> None:
    some, whole = at_a_rate("6fps", {0, 4, 8})
    found = read_sav(export(some, "sav", target / "some", every=4).read_bytes())
    assert found.masks.equals(read_sav(export(whole, "sav", target / "whole", every=4).read_bytes()).masks)


@pytest.mark.parametrize(("rate", "frames"), [("3f", {0, 3, 6}), ("8fps", {0, 3, 6})])
def test_sa_v_of_frames_that_were_not_labelled_is_a_problem(target: Path, rate: str, frames: set[int]) -> None:
    some, _ = at_a_rate(rate, frames)
    written = export_labels(some.select(every=4), Store(target), format_of("sav"), splits=Splits.parse([]))
    (problem,) = written.problems
    assert f"video 'a' was labelled at {rate}, which leaves out frames of every 4" in problem.message


def test_only_labelled_frames_are_scored() -> None:
    some, whole = at_a_rate("3f", {0, 3, 6}, ended=6)
    truth = SelectedMasks(whole.select())
    result = evaluate(SelectedMasks(some.select()), truth, workers=1)
    assert [(score.object_id, score.frames) for score in result.scores] == [(1, 3), (2, 3)]
    assert result.scores[0].j_and_f == 1
    assert result.scores[1].j_and_f == pytest.approx(2 / 3), "a frame after the object's end counts as an empty mask"
    without = some._replace(videos=whole.videos)
    assert summarise(evaluate(SelectedMasks(without.select()), truth, workers=1)).overall.j_and_f < 0.5
