"""Each rule, by the words of its message: what is wrong, where, and what is allowed."""

import math
from typing import Any

import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import read_manifest
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row

NAN = math.nan
OUTSIDE = {**POINT, "label": 0}


def counts(text: str) -> dict[str, Any]:
    return prompt(mask={**MASK, "counts": text})


BAD_PROMPTS = {
    "object missing": (prompt(object_id=None), "prompts[1].object_id, value None", "its object's whole number"),
    "object of no whole number": (prompt(object_id=1.5), "prompts[1].object_id, value 1.5", "whole number from -9223"),
    "frame and time": (prompt(frame_index=3, time_s=0.5), "frame_index, time_s, value (3, 0.5)", "exactly one"),
    "neither": (prompt(frame_index=None), "frame_index, time_s, value (None, None)", "exactly one of them is needed"),
    "time NaN": (prompt(time_s=NAN), "frame_index, time_s, value (None, None)", "null and NaN count as missing"),
    "time infinite": (prompt(time_s=math.inf), "prompts[1].time_s, value inf", "must be a finite number"),
    "negative frame": (prompt(frame_index=-1), "prompts[1].frame_index, value -1", "frames count from 0"),
    "frame of no video": (prompt(frame_index=2**31), "prompts[1].frame_index, value 2147483648", "to 2147483647"),
    "half a frame": (prompt(frame_index=2.5), "prompts[1].frame_index, value 2.5", "must be a whole number"),
    "negative time": (prompt(time_s=-0.25), "prompts[1].time_s, value -0.25", "negative"),
    "label 2": (prompt(points=[POINT, {**POINT, "label": 2}]), "prompts[1].points[1].label, value 2", "1 (on the obj"),
    "label 300": (prompt(points=[POINT, {**POINT, "label": 300}]), "prompts[1].points[1].label, value 300", "whole"),
    "label missing": (prompt(points=[{"x": 1.0, "y": 2.0}]), "prompts[1].points[0].label, value None", "0 (off it)"),
    "x missing": (prompt(points=[{"y": 1.0, "label": 1}]), "prompts[1].points[0].x, value None", "x, y and label"),
    "y NaN": (prompt(points=[POINT, {**POINT, "y": NAN}]), "prompts[1].points[1].y, value nan", "finite number"),
    "x beyond float": (prompt(points=[{**POINT, "x": 1e300}]), "prompts[1].points[0].x, value 1e+300", "finite number"),
    "only off": (prompt(points=[OUTSIDE, OUTSIDE]), "prompts[1].points, value [{'x': 12.5", "add a point on it (label"),
    "box side missing": (
        prompt(box={"x_min": 1.0}),
        "prompts[1].box.y_min, value None",
        "x_min, y_min, x_max and y_max",
    ),
    "box infinite": (prompt(box={**BOX, "y_max": math.inf}), "prompts[1].box.y_max, value inf", "finite number"),
    "box inside out": (prompt(box={**BOX, "x_min": 200.0}), "prompts[1].box, value {'x_min': 200.0", "x_min must be l"),
    "box without height": (prompt(box={**BOX, "y_min": 80.0}), "prompts[1].box", "y_min must be less than y_max"),
    "mask and box": (prompt(mask=MASK, box=BOX), "prompts[1].mask, value 'box, mask'", "a mask must be the only kind"),
    "mask and points": (
        prompt(mask=MASK, points=[POINT]),
        "prompts[1].mask, value 'points, mask'",
        "must be the only kind",
    ),
    "mask without size": (
        prompt(mask={"counts": "525"}),
        "prompts[1].mask.size, value None",
        "must be [height, width]",
    ),
    "mask of one side": (prompt(mask={**MASK, "size": [12]}), "prompts[1].mask.size, value [12]", "[height, width]"),
    "mask size zero": (prompt(mask={**MASK, "size": [0, 3]}), "prompts[1].mask.size, value [0, 3]", "at least 1"),
    "mask too large": (prompt(mask={**MASK, "size": [2**20, 2**20]}), "mask.size, value [1048576", "67108864 pixels"),
    "mask no counts": (prompt(mask={"size": [4, 3]}), "prompts[1].mask.counts, value None", "counts of a COCO RLE"),
    "mask empty counts": (counts(""), "prompts[1].mask.counts, value ''", "needs the compressed counts"),
    "mask alien counts": (counts("5 5"), "prompts[1].mask.counts, value '5 5'", "is not the compressed counts"),
    "mask cut counts": (counts("52P"), "prompts[1].mask.counts, value '52P'", "is not the compressed counts"),
    "mask negative run": (counts("5O5"), "prompts[1].mask.counts, value '5O5'", "is not the compressed counts"),
    "mask endless number": (counts("P" * 6 + "1"), "prompts[1].mask.counts, value 'PPPPPP1'", "not the compressed"),
    "mask of other size": (counts("526"), "prompts[1].mask.counts, value '526'", "covers 13 pixels, not the 12 of"),
    "mask empty": (counts("<"), "prompts[1].mask.counts, value '<'", "the mask is empty"),
    "mask long counts": (counts("0" * (2**20 + 1)), "mask.counts, value '0000", "at most 1048576 characters"),
    "nothing": (
        {"object_id": 1, "frame_index": 0},
        "prompts[1], value {'object_id': 1",
        "a prompt needs points, a box",
    ),
    "nothing but empty points": (prompt(points=[]), "prompts[1], value {'object_id': 1", "empty; a prompt needs"),
    "no prompt at all": ({"object_id": None}, "prompts[1].object_id, value None", "missing"),
    "mask that corrects": (
        prompt(frame_index=9, mask=MASK, correct=True),
        "prompts[1].correct, value True",
        "points or a box",
    ),
    "nothing to correct": (
        prompt(object_id=5, correct=True),
        "prompts[1].correct, value True",
        "needs a prompt without correct",
    ),
    "two ends": (
        prompt(frame_index=2, until_frame=5, until_s=1.0),
        "prompts[1].until_frame, until_s, value (5, 1.0)",
        "at most one of them",
    ),
    "ends before the prompt": (
        prompt(frame_index=8, until_frame=6),
        "prompts[1].until_frame, value 6",
        "not after the prompt itself; it must be greater than frame_index",
    ),
    "ends with the prompt": (prompt(time_s=7.0, until_s=7.0), "prompts[1].until_s, value 7.0", "greater than time_s"),
    "ends at frame 0": (prompt(time_s=7.0, until_frame=0), "prompts[1].until_frame, value 0", "from 1 to 2147483647"),
    "ends at no second": (prompt(frame_index=8, until_s=-1.0), "prompts[1].until_s, value -1.0", "more than 0 s"),
    "ends at infinity": (prompt(frame_index=8, until_s=math.inf), "prompts[1].until_s, value inf", "finite number"),
    "ends between frames": (prompt(frame_index=8, until_frame=8.5), "until_frame, value 8.5", "whole number"),
    "half true": (prompt(correct=0.5), "prompts[1].correct, value 0.5", "must be true or false"),
    "category": (prompt(category="cat\x1b[2J"), r"prompts[1].category, value 'cat\x1b[2J'", "control characters"),
}
BAD_COLUMNS: dict[str, tuple[dict[str, Any], str, str]] = {
    "id missing": ({"video_id": None}, "video_id None, column video_id, value None", "every row needs one"),
    "id empty": ({"video_id": ""}, "column video_id, value ''", "empty"),
    "id too long": ({"video_id": "x" * 201}, "column video_id, value 'xxx", "at most 200 bytes"),
    "id too long when quoted": ({"video_id": "é" * 34}, "column video_id, value 'ééé", "once it is percent-quoted"),
    "hidden id too long": ({"video_id": "_" + "x" * 198}, "column video_id, value '_xxx", "at most 200 bytes"),
    "newline in the id": ({"video_id": "a\nERROR"}, r"column video_id, value 'a\nERROR'", "control characters"),
    "reversed id": ({"video_id": "a\u202egpj"}, r"column video_id, value 'a\u202egpj'", "control characters"),
    "uri missing": ({"video_uri": None}, "column video_uri, value None", "every row needs one"),
    "uri empty": ({"video_uri": ""}, "column video_uri, value ''", "every row needs one"),
    "uri with NUL": ({"video_uri": "a\0b"}, r"column video_uri, value 'a\x00b'", "control characters"),
    "no frame a second": ({"label_fps": 0.0}, "column label_fps, value 0.0", "must be a number above 0"),
    "no stride": ({"label_every": 0}, "column label_every, value 0", "must be at least 1"),
    "two label rates": ({"label_fps": 6.0, "label_every": 4}, "column label_fps, label_every", "at most one of them"),
    "version empty": ({"video_version": ""}, "column video_version, value ''", "the content's version or null"),
    "no prompts": ({"prompts": None}, "column prompts, value []", "at least one prompt"),
    "empty prompts": ({"prompts": []}, "column prompts, value", "at least one prompt"),
    "start NaN": ({"start_s": NAN}, "column start_s, value nan", "must be a finite number"),
    "start negative": ({"start_s": -1.0}, "column start_s, value -1.0", "negative"),
    "end before start": ({"start_s": 5.0, "end_s": 4.0}, "column end_s, value 4.0", "must be greater than start_s"),
    "end at 0": ({"end_s": 0.0}, "column end_s, value 0.0", "0 when start_s is missing"),
    "fps zero": ({"fps": 0.0}, "column fps, value 0.0", "must be a number above 0"),
    "fps negative": ({"fps": -1.0}, "column fps, value -1.0", "must be a number above 0"),
    "fps NaN": ({"fps": NAN}, "column fps, value nan", "must be a finite number"),
    "no frames": ({"num_frames": 0}, "column num_frames, value 0", "at least 1, or missing"),
    "half a frame": ({"num_frames": 0.5}, "column num_frames, value 0.5", "must be a whole number"),
    "priority infinite": ({"priority": math.inf}, "column priority, value inf", "must be a whole number"),
}


def complaint(path: Any, **options: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_a_prompt_that_breaks_a_rule(write: Any, name: str) -> None:
    bad, where, rule = BAD_PROMPTS[name]
    path = write([row(video_id="sound"), row(prompt(frame_index=7), bad)])
    text = complaint(path)
    assert text.startswith(f"{path}: 1 of 2 rows break a rule")
    assert "row 1, video_id 'a', column " in text
    assert where in text
    assert rule in text


@pytest.mark.parametrize("name", BAD_COLUMNS)
def test_a_column_that_breaks_a_rule(write: Any, name: str) -> None:
    columns, where, rule = BAD_COLUMNS[name]
    text = complaint(write([row(video_id="sound"), {**row(), **columns}]))
    assert "1 of 2 rows break a rule" in text
    assert "row 1, " in text
    assert where in text
    assert rule in text


def test_two_prompts_for_one_object_and_frame(write: Any) -> None:
    again = prompt(points=[POINT])
    assert "column prompts[2].frame_index, value 0: a second prompt for this object and frame" in complaint(
        write([row(prompt(), prompt(object_id=2), again)])
    )
    assert "column prompts[1].time_s, value 0.5: a second prompt" in complaint(
        write([row(prompt(time_s=0.5), prompt(time_s=0.5, points=[POINT]))])
    )
    assert len(read_manifest(write([row(prompt(), prompt(time_s=0.0)), row(video_id="b")]))) == 2


def test_corrections_may_be_off_the_object_alone(write: Any) -> None:
    rows = [row(prompt(), prompt(frame_index=4, points=[OUTSIDE], correct=True), prompt(frame_index=5, correct=False))]
    assert [each.correct for each in read_manifest(write(rows)).video(0).prompts] == [False, True, False]
    for yes in (1, 1.0):  # as pandas writes a column of true and missing
        rows[0]["prompts"][1]["correct"] = yes
        rows[0]["prompts"][2]["correct"] = None
        assert [each.correct for each in read_manifest(write(rows)).video(0).prompts] == [False, True, False]


def test_two_categories_of_one_object(write: Any) -> None:
    text = complaint(write([row(prompt(category="cat"), prompt(frame_index=1), prompt(frame_index=2, category="dog"))]))
    assert "column prompts[2].category, value 'dog': another category than in this object's other prompts" in text
    sound = [prompt(category="cat"), prompt(frame_index=1, category="cat"), prompt(object_id=2, category="dog")]
    assert len(read_manifest(write([row(*sound), row(prompt(category="dog"), video_id="b")]))) == 2


def test_one_id_twice(write: Any) -> None:
    text = complaint(write([row(), row(video_id="b"), row(), row()]))
    assert "2 of 4 rows break a rule" in text
    assert "row 2, video_id 'a', column video_id, value 'a': row 0 has this id already; each video has one row" in text


def test_negative_points_need_a_box_or_a_positive_point(write: Any) -> None:
    manifest = read_manifest(
        write([row(prompt(points=[OUTSIDE], box=BOX), prompt(object_id=2, points=[OUTSIDE, POINT]))])
    )
    assert [len(each.points) for each in manifest.video(0).prompts] == [1, 2]


def test_ids_and_masks_at_the_limit(write: Any) -> None:
    ids = ["x" * 200, "é" * 33, "_" + "x" * 197, "../../etc", "a b/c%d", "."]
    assert len(read_manifest(write([row(video_id=each) for each in ids]))) == len(ids)
    assert len(read_manifest(write([row(prompt(mask=MASK))]))) == 1


def test_skipped_rows_are_listed_and_the_others_kept(write: Any) -> None:
    rows = [row(video_id=None), row(), row(prompt(object_id=None), video_id="b"), row(video_id="c"), row()]
    manifest = read_manifest(write(rows), on_bad_row="skip")
    assert [manifest.video(i).video_id for i in range(len(manifest))] == ["a", "c"]
    assert [manifest.video(i).row for i in range(2)] == manifest.rows.tolist() == [1, 3]
    assert [(bad.row, bad.video_id, bad.column, bad.value) for bad in manifest.bad_rows] == [
        (0, None, "video_id", "None"),
        (2, "b", "prompts[0].object_id", "None"),
        (4, "a", "video_id", "'a'"),
    ]
    assert "each video has one row" in manifest.bad_rows[2].rule


def test_many_bad_rows_are_counted_and_some_shown(write: Any) -> None:
    text = complaint(write([row(video_id=f"v{i}", video_uri="") for i in range(50)]))
    assert "50 of 50 rows" in text
    assert "row 19, " in text
    assert "row 20, " not in text
    assert text.endswith("and 30 more")


def test_a_hopeless_manifest_is_not_read_to_its_end(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.manifest.source._BATCH_ROWS", 1500)
    path = write([row(video_id=f"v{i}", video_uri="") for i in range(4000)])
    assert "1500 of the first 1500 rows (of 4000) break a rule" in complaint(path)
    assert len(read_manifest(path, on_bad_row="skip").bad_rows) == 4000


def test_a_hostile_string_neither_breaks_a_line_nor_fills_the_screen(write: Any) -> None:
    text = complaint(write([row(video_id="x\r\n\x1b[31m" + "y" * 1_000_000)]))
    assert "\r" not in text
    assert "\x1b" not in text
    assert len(text) < 1000
    assert "(1000008 long)" in text
