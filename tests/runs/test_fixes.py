"""jobs.review apply takes complete prompts and changes of some prompts, and names what it cannot use."""

import io
import json
import shutil
from pathlib import Path

import pytest

from jobs import review
from pipeline.runs.corrections import overlay_prompts, read_corrections
from pipeline.storage import Store
from tests.clips import green, point, red, write_clip
from tests.views.labelled import write_labels


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Labels of two clips of four frames."""
    root = tmp_path_factory.mktemp("labelled")
    rows = [
        {"video_id": "cat", "video_uri": write_clip(root / "cat.mp4", frames=4), "prompts": [red(), green()]},
        {"video_id": "dog", "video_uri": write_clip(root / "dog.mp4", frames=4, seed=1), "prompts": [red()]},
    ]
    return write_labels(root, rows)


@pytest.fixture
def output(labelled, tmp_path) -> Path:
    shutil.copytree(labelled, tmp_path / "out")
    return tmp_path / "out"


def apply(output: Path, text: str, *more: str) -> int:
    (output.parent / "fixes.json").write_text(text)
    return review.main(["apply", str(output), str(output.parent / "fixes.json"), *more])


def prompts(output: Path, video_id: str, given: list[dict]) -> list[tuple]:
    """Object, frame and points of the video's prompts with its corrections."""
    found = overlay_prompts(given, read_corrections(Store(output)).in_force(video_id))
    return [
        (each["object_id"], each["frame_index"], [tuple(p.values()) for p in each.get("points") or ()])
        for each in sorted(found, key=lambda each: (each["object_id"], each["frame_index"]))
    ]


CHANGED = {"video_id": "cat", "changed": [red(2, correct=True), red(1, 7, category="tail")]}


def test_changes_leave_the_other_prompts_as_they_are(output, capsys):
    assert apply(output, json.dumps(CHANGED)) == 0
    said = capsys.readouterr().out
    assert "'cat': object 1 at frame 2 set; object 7 at frame 1 set" in said
    assert "the next jobs.label or night labels them again" in said
    assert [each[:2] for each in prompts(output, "cat", [red(), green()])] == [(1, 0), (1, 2), (2, 0), (7, 1)]
    assert apply(output, json.dumps(CHANGED)) == 0
    assert "0 videos corrected, 1 unchanged" in capsys.readouterr().out
    gone = {"video_id": "cat", "removed": [{"object_id": 2, "frame_index": 0}, {"object_id": 1, "frame_index": 2}]}
    assert apply(output, json.dumps(gone)) == 0
    assert [each[:2] for each in prompts(output, "cat", [red(), green()])] == [(1, 0), (7, 1)]


@pytest.mark.parametrize("form", ["lines", "list", "pretty", "paste"])
def test_every_form_of_json_is_read(output, form, capsys, monkeypatch):
    fixes = [CHANGED, {"video_id": "dog", "changed": [red(0, points=[point(20, 20)])]}]
    text = {"list": json.dumps(fixes, indent=1), "pretty": json.dumps(CHANGED, indent=1)}.get(
        form, "\n".join(map(json.dumps, fixes))
    )
    if form == "paste":
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert review.main(["apply", str(output), "-"]) == 0
    else:
        assert apply(output, text) == 0
    assert f"{1 if form == 'pretty' else 2} video" in capsys.readouterr().out


def test_several_files_and_several_changes_of_one_video_are_applied_in_order(output, capsys):
    paths = []
    for n, x in enumerate((15, 16)):
        path = output.parent / f"{n}.jsonl"
        path.write_text(json.dumps({"video_id": "dog", "changed": [red(0, points=[point(x, 20)])]}))
        paths.append(str(path))
    assert review.main(["apply", str(output), *paths, "--dry-run"]) == 0
    assert prompts(output, "dog", [red()]) == [(1, 0, [(17, 19, 1)])]
    assert review.main(["apply", str(output), *paths]) == 0
    assert prompts(output, "dog", [red()]) == [(1, 0, [(16, 20, 1)])]
    assert "2 videos" not in capsys.readouterr().out


def test_a_review_edited_by_hand_and_changes_of_the_player_are_applied_together(output):
    assert review.main([str(output), "--folder", str(output.parent / "review")]) == 0
    path = output.parent / "review" / "prompts.jsonl"
    line = next(line for line in map(json.loads, path.read_text().splitlines()) if line["video_id"] == "cat")
    line["prompts"].append(green(3, 9))
    assert apply(output, "\n".join(map(json.dumps, [line, CHANGED]))) == 0
    assert [each[:2] for each in prompts(output, "cat", [red(), green()])] == [(1, 0), (1, 2), (2, 0), (7, 1), (9, 3)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"changed": [red(1, points=[point(5000, 3)])]}, "object 1 at frame 1: point (5000, 3) lies outside the frame; "
         "the frame is 96 x 64 pixels"),
        ({"changed": [red(9)]}, "object 1 at frame 9: the video has frames 0 to 3"),
        ({"changed": [red(1, points=[point(1, 2, 5)])]}, "object 1 at frame 1, prompts[2].points[0].label, value 5: "
         "must be 1 (on the object) or 0 (off it)"),
        ({"changed": [red(1, points=[{"x": "a", "y": 1, "label": 1}])]}, "object 1 at frame 1: prompts are no list"),
        ({"changed": [red(1, 8, correct=True)]}, "object 8 at frame 1, prompts[2].correct, value True: nothing to"),
        ({"changed": [red(1, points=[point(1, 2, 0)])]}, "object 1 at frame 1, prompts[2].points, value"),
        ({"changed": [{"object_id": 1}]}, "changed: {'object_id': 1} has no object_id, or neither"),
        ({"changed": {"object_id": 1}}, "changed is no list of prompts; each line is an object with video_id"),
        ({"removed": [{"object_id": 3, "frame_index": 1}]}, "removed: the video has no prompt of object 3 at frame 1; "
         "it has object 1 at frame 0, object 2 at frame 0"),
        ({"changed": [red(1)], "prompts": [red()]}, "has both prompts and changes of them"),
        ({"changed": [red(1)], "version": "2-x"}, "version is 2-x, its labels have"),
        ({"changed": [red(1)], "start_s": 2.0}, "start_s is 2.0, its labels have None"),
        ({"prompts": [red(), red(4)]}, "object 1 at frame 4: the video has frames 0 to 3"),
    ],
)  # fmt: skip
def test_wrong_input_is_named_by_line_video_object_and_frame(output, line, reason, capsys):
    good = {"video_id": "dog", "changed": [red(0, points=[point(15, 20)])]}
    assert apply(output, "\n".join(map(json.dumps, [good, {"video_id": "cat", **line}]))) == 3
    said = capsys.readouterr().out
    assert f"fixes.json, line 2, video 'cat': {reason}" in said
    assert "1 video corrected" in said
    assert prompts(output, "dog", [red()]) == [(1, 0, [(15, 20, 1)])]
    assert not read_corrections(Store(output)).in_force("cat")
