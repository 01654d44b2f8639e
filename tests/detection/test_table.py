"""The detections table: what is read, what is refused by name, and what changes a video's digest."""

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pipeline.detection import digest_of, read_video, to_detections
from pipeline.detection.sources.source import Source
from pipeline.detection.table import groups_of
from pipeline.errors import ManifestError
from pipeline.masks import rle


def box(x: float, y: float, size: float = 10) -> dict[str, float]:
    return {"x_min": x, "y_min": y, "x_max": x + size, "y_max": y + size}


def rows(video_id: str = "a", frames: int = 3, **columns: object) -> list[dict[str, object]]:
    return [
        {"video_id": video_id, "frame_index": t, "box": box(t, 5), "category": "car", "score": 0.5, **columns}
        for t in range(frames)
    ]


def batch(records: list[dict[str, object]]) -> pa.RecordBatch:
    names = dict.fromkeys(name for record in records for name in record)
    return pa.RecordBatch.from_pydict({name: [record.get(name) for record in records] for name in names})


def digest(records: list[dict[str, object]]) -> str:
    return digest_of(to_detections(batch(records))[0])


def test_the_digest_of_a_video_does_not_depend_on_order():
    assert digest(rows()) == digest(rows()[::-1])


@pytest.mark.parametrize(
    "change",
    [
        {"frame_index": 9},
        {"box": box(1, 5)},
        {"category": "bus"},
        {"category": None},
        {"score": 0.25},
        {"score": None},
        {"box": None},
    ],
    ids=str,
)
def test_every_changed_value_changes_the_digest(change: dict[str, object]):
    assert digest([{**rows()[0], **change}, *rows()[1:]]) != digest(rows())


def test_a_repeated_detection_changes_the_digest():
    assert digest([*rows(), *rows()]) != digest(rows())


def test_flat_columns_give_the_same_detections_as_nested_ones():
    flat = [{"video_id": "a", "frame_index": t, **box(t, 5), "category": "car", "score": 0.5} for t in range(3)]
    assert digest(flat) == digest(rows())


def test_a_look_that_saw_nothing_has_neither_box_nor_mask():
    flat = [{"video_id": "a", "frame_index": 0, **dict.fromkeys(box(0, 0), float("nan"))}]
    found, bad = to_detections(batch(flat))
    assert not bad
    assert found["box"].null_count == found["mask"].null_count == 1


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        ({"box": {**box(0, 0), "x_max": float("nan")}}, "box.x_max", "must be a finite number"),
        ({"box": {**box(0, 0), "x_max": float("inf")}}, "box.x_max", "must be a finite number"),
        ({"box": {**box(0, 0), "x_max": None}}, "box.x_max", "missing; a box needs"),
        ({"box": {**box(0, 0), "x_max": -1.0}}, "box", "x_min must be less than x_max"),
        ({"video_id": None}, "video_id", "missing"),
        ({"frame_index": -1}, "frame_index", "frames count from 0"),
        ({"frame_index": None}, "frame_index, time_s", "needs one of them"),
        ({"mask": {"size": [4, 4], "counts": "0"}}, "mask.counts", "covers 0 pixels"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
def test_bad_rows_are_named_and_left_out(change: dict[str, object], column: str, rule: str):
    records = [*rows(), {**rows()[0], **change}]
    found, [bad] = to_detections(batch(records), first_row=100)
    assert len(found) == 3
    assert (bad.row, bad.column) == (103, column)
    assert rule in bad.rule


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"video_id": "video"}, "column video_id is missing"),
        ({"frame_index": "frame"}, "column frame_index or time_s is missing"),
        ({"box": "bbox"}, "need a column box or mask"),
    ],
    ids=str,
)
def test_a_column_under_another_name_is_refused(rename: dict[str, str], message: str):
    given = batch(rows()).rename_columns([rename.get(name, name) for name in batch(rows()).schema.names])
    with pytest.raises(ManifestError, match=message):
        to_detections(given)


def test_one_video_is_read_from_its_row_groups_alone(tmp_path):
    path = tmp_path / "detections.parquet"
    table = pa.Table.from_pylist([row for n in range(20) for row in rows(f"video-{n:02}")])
    pq.write_table(table, path, row_group_size=6)
    assert list(groups_of(pq.read_metadata(path), "video-07")) == [3]
    found = read_video(str(path), "video-07")
    assert found.digest == digest(rows("video-07"))
    assert found.table["frame_index"].to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_unsorted_tables_of_every_format_give_the_same_detections(tmp_path, suffix):
    path = tmp_path / f"detections.{suffix}"
    records = [row for t in range(3) for name in "ba" for row in rows(name)[t : t + 1]][::-1]
    table = pa.Table.from_pylist(records)
    flat = table.drop_columns("box").append_column("x_min", pa.compute.struct_field(table["box"], "x_min"))
    for side in ("y_min", "x_max", "y_max"):
        flat = flat.append_column(side, pa.compute.struct_field(table["box"], side))
    if suffix == "parquet":
        pq.write_table(table, path)
    elif suffix == "csv":
        pa.csv.write_csv(flat, path)
    else:
        path.write_text(flat.to_pandas().to_json(orient="records", lines=True))
    assert read_video(str(path), "a").digest == digest(rows())
    assert sum(len(found) for found, _ in Source(str(path)).batches()) == 6


def test_bad_rows_of_one_video_come_with_it_alone(tmp_path):
    path = tmp_path / "detections.parquet"
    bad = {**rows("b")[0], "box": {**box(0, 0), "x_max": -5.0}}
    pq.write_table(pa.Table.from_pylist([*rows("a"), bad, *rows("b")]), path)
    assert not read_video(str(path), "a").bad_rows
    assert [row.row for row in read_video(str(path), "b").bad_rows] == [3]


def test_masks_are_detections_too():
    [counts] = rle.compress(np.array([4, 4, 8]), np.array([3]))
    found, bad = to_detections(batch([{"video_id": "a", "time_s": 0.5, "mask": {"size": [4, 4], "counts": counts}}]))
    assert not bad
    assert found["mask"][0].as_py() == {"size": [4, 4], "counts": counts}
