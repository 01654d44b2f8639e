"""Prompts from rules and from detections."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.manifest.build import Every, PromptRule, Refine, detections_to_prompts
from pipeline.manifest.build.detections import MAX_MISSED, iou, link

SIDES = ("x_min", "y_min", "x_max", "y_max")


def test_default_rules() -> None:
    def box(rule: str) -> list[tuple[float, ...]]:
        prompts = PromptRule.parse(rule).prompts(width=400, height=200)
        assert [prompt["object_id"] for prompt in prompts] == list(range(1, len(prompts) + 1))
        assert {prompt["frame_index"] for prompt in prompts} == {0}
        return [tuple(prompt["box"][side] for side in SIDES) for prompt in prompts]

    assert box("full-frame") == [(0, 0, 400, 200)]
    assert box("centre-box") == [(100, 50, 300, 150)]
    assert box("centre-box:1") == [(0, 0, 400, 200)]
    assert box("boxes:1x2") == [(0, 0, 200, 200), (200, 0, 400, 200)]
    points = PromptRule.parse("points:2x2").prompts(width=400, height=200)
    assert [prompt["points"] for prompt in points] == [
        [{"x": x, "y": y, "label": 1}] for y in (50, 150) for x in (100, 300)
    ]


@pytest.mark.parametrize(
    "text", ["center", "points:0x3", "points:3", "boxes:100x1", "centre-box:0", "centre-box:1.5", ""]
)
def test_unknown_rules(text: str) -> None:
    with pytest.raises(UsageError, match="allowed are centre-box, "):
        PromptRule.parse(text)


def test_intervals() -> None:
    assert Every.parse("0.5s") == Every(seconds=0.5)
    assert Every.parse("30f") == Every(frames=30)
    for text in ("0s", "0f", "1.5f", "s", "1", "-1s"):
        with pytest.raises(UsageError, match="allowed are seconds, "):
            Every.parse(text)


def test_overlap() -> None:
    a, b = np.array([[0.0, 0, 2, 2], [10, 10, 11, 11]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2]])
    assert iou(a, b) == pytest.approx(np.array([[1 / 7, 1], [0, 0]]))


def moving(x: float, *, size: float = 10) -> tuple[float, float, float, float]:
    return (x, 0.0, x + size, size)


def numbers(*looks: list[tuple[float, float, float, float]], category: Any = None, match_iou: float = 0.5) -> list[int]:
    boxes = np.array([box for look in looks for box in look])
    moment = np.repeat(np.arange(len(looks), dtype=float), [len(look) for look in looks])
    categories = np.zeros(len(boxes), np.int64) if category is None else np.array(category)
    return link(boxes, moment, categories, match_iou=match_iou).tolist()


def test_an_object_keeps_its_id_and_a_new_one_gets_another() -> None:
    assert numbers([moving(0)], [moving(2)], [moving(4), moving(50)], [moving(50), moving(6)]) == [1, 1, 1, 2, 2, 1]


def test_the_largest_overlap_wins() -> None:
    assert numbers([moving(0), moving(4)], [moving(3), moving(1)]) == [1, 2, 2, 1]


def test_the_threshold_and_the_category_separate() -> None:
    assert numbers([moving(0)], [moving(2)], match_iou=0.9) == [1, 2]
    assert numbers([moving(0)], [moving(0)], category=[0, 1]) == [1, 2]


def test_an_object_is_remembered_for_some_looks() -> None:
    elsewhere = [moving(500)]
    assert numbers([moving(0), *elsewhere], *[elsewhere] * (MAX_MISSED - 1), [moving(0)])[-1] == 1
    assert numbers([moving(0), *elsewhere], *[elsewhere] * MAX_MISSED, [moving(0)])[-1] == 3


def detections(*rows: tuple[Any, ...], names: tuple[str, ...] = ("video_id", "frame_index", *SIDES)) -> pa.Table:
    return pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})


def test_one_look_per_interval_is_its_first_frame_with_detections() -> None:
    table = detections(*[("b" if i % 2 else "a", i // 2, *moving(i // 2)) for i in range(20)])
    prompts = detections_to_prompts(table, every=Every(frames=4), match_iou=0.1)
    assert prompts.select(["video_id", "frame_index", "object_id"]).to_pylist() == [
        {"video_id": video, "frame_index": frame, "object_id": 1} for video in "ab" for frame in (0, 4, 8)
    ]
    by_seconds = detections_to_prompts(table, every=Every(seconds=0.4), match_iou=0.1, fps=10)
    assert by_seconds == prompts
    rates = table.append_column("fps", pa.array([10.0] * 20))
    assert detections_to_prompts(rates, every=Every(seconds=0.4), match_iou=0.1) == prompts
    late = detections(("a", 7, *moving(0)), ("a", 9, *moving(0)), ("a", 12, *moving(0)))
    assert detections_to_prompts(late, every=Every(frames=5), match_iou=0.1)["frame_index"].to_pylist() == [7, 12]


@pytest.mark.parametrize(
    ("refine", "frames"), [("never", [0]), ("lost", [0, 3]), ("every", [0, 1, 3, 4])], ids=lambda value: str(value)
)
def test_an_object_is_prompted_again_as_refine_says(refine: Refine, frames: list[int]) -> None:
    table = detections(*[("a", t, *moving(0)) for t in (0, 1, 3, 4)], ("a", 2, *(x + 500 for x in moving(0))))
    found = detections_to_prompts(table, every=Every(frames=1), match_iou=0.5, refine=refine, confirm_score=0.9)
    assert found["frame_index"].to_pylist() == frames


def test_a_box_that_no_second_one_confirms_needs_a_high_score() -> None:
    names = ("video_id", "frame_index", *SIDES, "score")
    table = detections(("a", 0, *moving(0), 0.5), ("b", 0, *moving(0), 0.9), names=names)
    found = detections_to_prompts(table, every=Every(frames=1), match_iou=0.5, confirm_score=0.8)
    assert found["video_id"].to_pylist() == ["b"]


def test_times_in_seconds() -> None:
    names = ("video_id", "time_s", *SIDES)
    table = detections(*[("a", i / 10, *moving(i)) for i in range(25)], names=names)
    prompts = detections_to_prompts(table, every=Every(seconds=1), match_iou=0.01)
    assert prompts["time_s"].to_pylist() == [0, 1, 2]
    assert "frame_index" not in prompts.column_names


def test_what_is_left_out_of_detections() -> None:
    names = ("video_id", "frame_index", *SIDES, "score", "category", "detector")
    table = detections(
        ("a", 0, *moving(0), 0.9, "cat", "x"),
        ("a", 0, *moving(50), 0.2, "cat", "x"),
        ("a", 0, 5.0, 5.0, 5.0, 9.0, 0.9, "cat", "x"),
        ("a", 0, float("nan"), 5.0, 6.0, 9.0, 0.9, "cat", "x"),
        ("a", 0, *moving(90), None, None, "x"),
        names=names,
    )
    kept = detections_to_prompts(table, every=Every(frames=1), match_iou=0.5, min_score=0.5)
    assert kept.to_pylist() == [
        {
            "video_id": "a",
            "frame_index": 0,
            **dict(zip(SIDES, moving(0), strict=True)),
            "category": "cat",
            "object_id": 1,
        }
    ]
    assert detections_to_prompts(table, every=Every(frames=1), match_iou=0.5).num_rows == 3
    none = detections_to_prompts(table.slice(2, 1), every=Every(frames=1), match_iou=0.5)
    assert none.num_rows == 0


def test_detections_that_cannot_be_used() -> None:
    good = detections(("a", 0, *moving(0)))
    with pytest.raises(UsageError, match="needs the frame rate"):
        detections_to_prompts(good, every=Every(seconds=1), match_iou=0.5)
    with pytest.raises(UsageError, match="must be a number above 0"):
        detections_to_prompts(good, every=Every(seconds=1), match_iou=0.5, fps=0)
    with pytest.raises(UsageError, match="lack the columns x_max; they have video_id"):
        detections_to_prompts(good.drop_columns("x_max"), every=Every(frames=1), match_iou=0.5)
    with pytest.raises(UsageError, match="lack the columns frame_index or time_s"):
        detections_to_prompts(good.drop_columns("frame_index"), every=Every(frames=1), match_iou=0.5)
    with pytest.raises(UsageError, match="column frame_index has 1 rows without a value"):
        detections_to_prompts(detections(("a", None, *moving(0))), every=Every(frames=1), match_iou=0.5)
    with pytest.raises(UsageError, match="column x_min is not of numbers"):
        detections_to_prompts(detections(("a", 0, "left", 1.0, 2.0, 3.0)), every=Every(frames=1), match_iou=0.5)


def test_detections_with_an_identity_are_objects_by_it_alone() -> None:
    names = ("video_id", "frame_index", *SIDES, "category", "score", "track_id")
    table = detections(
        ("a", 0, *moving(0), "car", 0.1, "7"),
        ("a", 1, *moving(90), "truck", 0.1, "7"),
        ("a", 1, *moving(80), "car", 0.05, "7"),
        ("a", 3, *moving(50), "car", 0.1, "3"),
        ("a", 9, *moving(50), "car", 0.1, "7"),
        ("a", 0, *moving(40), "car", 0.9, None),
        ("b", 0, *moving(40), "car", 0.1, "x"),
        names=names,
    )
    left_out: Counter[str] = Counter()
    given = {"every": Every(frames=2), "match_iou": 0.5, "confirm_score": 0.8, "left_out": left_out}
    found = detections_to_prompts(table, **given, refine="lost")
    assert found.select(["video_id", "frame_index", "object_id", "category"]).to_pylist() == [
        {"video_id": video, "frame_index": frame, "object_id": object_id, "category": "car"}
        for video, frame, object_id in (("a", 0, 7), ("a", 0, 8), ("a", 3, 3), ("a", 9, 7), ("b", 0, 1))
    ]
    assert +left_out == {
        "repeat an identity on their frame, with a lower score": 1,
        "lie between two looks (--every)": 1,
    }
    assert detections_to_prompts(table, **given, refine="never")["object_id"].to_pylist() == [7, 8, 3, 1]


def test_a_mask_is_the_prompt_of_its_detection() -> None:
    names = ("video_id", "frame_index", *SIDES, "mask_height", "mask_width", "mask_counts")
    table = detections(("a", 0, *moving(0), 4, 4, "44"), ("a", 0, *moving(90), None, None, None), names=names)
    found = detections_to_prompts(table, every=Every(frames=1), match_iou=0.5).to_pylist()
    assert [(row["x_min"], row["mask_counts"]) for row in found] == [(None, "44"), (moving(90)[0], None)]
