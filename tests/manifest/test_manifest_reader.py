"""What pandas, pyarrow and DuckDB write is read as the same table; what is no manifest is refused by name."""

import io
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError, StorageError
from pipeline.manifest import PROMPT, SCHEMA, Manifest, Prompt, Video, describe, read_manifest
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row

CANONICAL = [
    prompt(points=[POINT, {"x": 7.0, "y": 8.0, "label": 0}], category="cat"),
    prompt(frame_index=4),
    prompt(object_id=2, time_s=1.5, box=BOX, points=[POINT]),
    prompt(object_id=3, mask=MASK),
]


def complaint(path: Any, **options: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, **options)
    return str(caught.value)


def expected(*rows: dict[str, Any]) -> pa.Table:
    filled = [{name: each.get(name) for name in SCHEMA.names} for each in rows]
    return pa.Table.from_pylist(filled, schema=SCHEMA)


def test_pandas_writes_dicts(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "video_id": ["a", "b"],
            "video_uri": ["s3://bucket/a.mp4"] * 2,
            "prompts": [
                [
                    {**CANONICAL[0], "time_s": np.nan, "box": None, "mask": {}},
                    {**CANONICAL[1], "object_id": np.int64(1), "points": [], "category": None},
                    {
                        **CANONICAL[2],
                        "frame_index": np.nan,
                        "points": [{"x": np.float32(12.5), "y": 30, "label": np.int8(1)}],
                    },
                    {**CANONICAL[3], "points": [], "category": np.nan},
                ],
                np.array([prompt(frame_index=np.int32(7), box={**BOX, "x_min": 10})]),
            ],
            "start_s": [None, 2],
            "num_frames": [np.nan, 300],
            "priority": pd.array([None, 5], dtype="Int16"),
            "site": pd.Categorical(["north", "south"]),
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest.table.select(SCHEMA.names).equals(
        expected(
            row(*CANONICAL, num_frames=None),
            row(prompt(frame_index=7), video_id="b", start_s=2.0, num_frames=300, priority=5),
        )
    )
    assert manifest.video(1).extra.to_pylist() == [{"site": "south"}]
    assert manifest.video(1).num_frames == 300


@pytest.mark.parametrize("wide", [False, True])
def test_pyarrow_writes_any_width(tmp_path: Path, wide: bool) -> None:
    number, text, listed = (
        (pa.float64(), pa.large_string(), pa.large_list) if wide else (pa.float32(), pa.string(), pa.list_)
    )
    whole = pa.uint64() if wide else pa.int16()
    point = pa.struct([("label", whole), ("y", number), ("x", number)])
    box = pa.struct([(name, number) for name in BOX])
    size = pa.list_(whole, 2) if wide else listed(whole)
    mask = pa.struct([("counts", pa.binary()), ("size", size)])
    fields = [("object_id", whole), ("frame_index", whole), ("time_s", number), ("points", listed(point)), ("box", box)]
    kind = pa.struct([("category", pa.dictionary(pa.int8(), pa.string()) if wide else text), *fields, ("mask", mask)])
    values = [{**each, "mask": {"size": [4, 3], "counts": b"525"}} if "mask" in each else each for each in CANONICAL]
    table = pa.table(
        {
            "priority": pa.array([Decimal(3)] if wide else [3.0]),
            "prompts": pa.array([values], listed(kind)),
            "video_uri": pa.array(["s3://bucket/a.mp4"]).dictionary_encode(),
            "video_id": pa.array(["a"], text),
            "end_s": pa.array([9], whole),
            "start_s": pa.nulls(1),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest.table.equals(expected(row(*CANONICAL, priority=3, end_s=9.0)))


def test_duckdb_writes_decimals_and_structs(tmp_path: Path) -> None:
    duckdb.sql(
        f"""copy (select 'a' as video_id, 's3://bucket/a.mp4' as video_uri, 0.5 as start_s, 300::hugeint as num_frames,
        [{{'object_id': 1, 'frame_index': 3, 'time_s': null, 'box': null,
           'points': [{{'x': 12.5, 'y': 30, 'label': 1}}]}},
         {{'object_id': 2, 'frame_index': null, 'time_s': 1.5, 'points': [],
           'box': {{'x_min': 10, 'y_min': 20, 'x_max': 110.5, 'y_max': 80}}}}] as prompts,
        date '2026-11-22' as day) to '{tmp_path}/m.parquet'"""
    )
    manifest = read_manifest(tmp_path / "m.parquet")
    both = [prompt(frame_index=3, points=[POINT]), prompt(object_id=2, time_s=1.5, box=BOX)]
    assert manifest.table.drop_columns("day").equals(expected(row(*both, start_s=0.5, num_frames=300)))
    assert str(manifest.video(0).extra["day"][0]) == "2026-11-22"


def test_a_video_as_objects(write: Any) -> None:
    manifest = read_manifest(write([row(video_id="z"), row(*CANONICAL, video_version="v7", end_s=2.5, site="north")]))
    assert len(manifest) == 2
    assert manifest.video(1) == Video(
        row=1,
        video_id="a",
        video_uri="s3://bucket/a.mp4",
        prompts=(
            Prompt(object_id=1, frame_index=0, points=((12.5, 30.0, 1), (7.0, 8.0, 0)), category="cat"),
            Prompt(object_id=1, frame_index=4, box=(10.0, 20.0, 110.5, 80.0)),
            Prompt(object_id=2, time_s=1.5, points=((12.5, 30.0, 1),), box=(10.0, 20.0, 110.5, 80.0)),
            Prompt(object_id=3, frame_index=0, mask=((4, 3), "525")),
        ),
        video_version="v7",
        end_s=2.5,
        extra=pa.table({"site": ["north"]}),
    )
    with pytest.raises(IndexError):
        manifest.video(2)
    assert manifest.videos([1, 0, 1]) == [manifest.video(i) for i in (1, 0, 1)]
    assert manifest.videos([]) == []


def test_prompts_come_in_one_order(write: Any) -> None:
    rows = [row(*CANONICAL), row(*reversed(CANONICAL), video_id="b")]
    manifest = read_manifest(write(rows))
    assert manifest.table["prompts"][0] == manifest.table["prompts"][1]


def test_row_numbers_run_over_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.manifest.source._BATCH_ROWS", 3)
    rows = [row(video_id=f"v{i}") for i in range(20)]
    rows[11]["video_uri"] = None
    rows[19]["video_id"] = "v2"
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet", row_group_size=7)
    manifest = read_manifest(tmp_path / "m.parquet", on_bad_row="skip")
    assert [bad.row for bad in manifest.bad_rows] == [11, 19]
    assert "row 2 has this id already" in manifest.bad_rows[1].rule
    assert [manifest.video(i).video_id for i in (0, 11, 17)] == ["v0", "v12", "v18"]
    assert manifest.video(11).row == 12


def test_an_empty_manifest_is_empty(tmp_path: Path) -> None:
    pq.write_table(SCHEMA.empty_table(), tmp_path / "m.parquet")
    assert len(read_manifest(tmp_path / "m.parquet")) == 0


WRONG_TYPES = {
    "video_id": (pa.array([1]), "column video_id has the type int64, not string"),
    "start_s": (pa.array(["1"]), "column start_s has the type string, not a number (float, double or an integer)"),
    "fps": (
        pa.array(["10"]),
        "column fps has the type string, not a number (float, double or an integer); the first is row 0, video_id 'a', "
        "value '10'",
    ),
    "num_frames": (pa.array([True]), "column num_frames has the type bool, not an integer (int64)"),
    "prompts": (
        pa.array(["box"]),
        "column prompts has the type string, not a list of structs of object_id, frame_index",
    ),
}
WRONG_PROMPTS = {
    "prompts": ([1.5], "column prompts[] has the type double, not a struct of object_id, frame_index"),
    "box": ([prompt(box=[1.0, 2.0, 3.0, 4.0])], "column prompts[].box has the type list"),
    "points": ([prompt(points={"x": 1.0, "y": 1.0, "label": 1})], "column prompts[].points has the type struct"),
    "counts": ([prompt(mask={"size": [4, 3], "counts": [5, 2, 5]})], "prompts[].mask.counts has the type list"),
    "label": (
        [prompt(points=[{**POINT, "label": "in"}])],
        "column prompts[].points[].label has the type string, not an",
    ),
    "bbox": ([prompt(bbox=BOX)], "column prompts[] has a field 'bbox'; its fields are object_id, frame_index"),
    "xmin": (
        [prompt(box={**BOX, "xmin": 1.0})],
        "column prompts[].box has a field 'xmin'; its fields are x_min, y_min",
    ),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_column_of_a_wrong_type(tmp_path: Path, name: str) -> None:
    column, words = WRONG_TYPES[name]
    table = {**{key: pa.array([value]) for key, value in row().items()}, name: column}
    pq.write_table(pa.table(table), tmp_path / "m.parquet")
    assert f"{tmp_path}/m.parquet: {words}" in complaint(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", WRONG_PROMPTS)
def test_a_field_of_a_wrong_type(write: Any, name: str) -> None:
    values, words = WRONG_PROMPTS[name]
    assert words in complaint(write([{**row(), "prompts": values}]))


@pytest.mark.parametrize("name", ["video_id", "video_uri", "prompts"])
def test_a_missing_column(write: Any, name: str) -> None:
    given = row()
    del given[name]
    text = complaint(write([given]))
    assert f"column {name} is missing; the columns video_id, video_uri, prompts are required, the file has [" in text


def test_a_column_twice(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["a"])], names=["video_id", "video_id"])
    pq.write_table(table, tmp_path / "m.parquet")
    assert "duplicate column 'video_id'" in complaint(tmp_path / "m.parquet")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"\xff\xfe"]).view(pa.string())
    table = pa.Table.from_pylist([row()]).append_column("site", raw)
    pq.write_table(table, tmp_path / "m.parquet")
    assert "a column holds what its type does not allow in rows 0 to 0" in complaint(tmp_path / "m.parquet")
    counts = pa.table({"video_id": ["a"], "video_uri": ["u"], "video_version": pa.array([b"\xff"])})
    pq.write_table(counts.append_column("prompts", pa.array([[prompt()]])), tmp_path / "m.parquet")
    assert r"row 0, video_id 'a', column video_version, value b'\xff': not UTF-8 text" in complaint(
        tmp_path / "m.parquet"
    )


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    assert "absent.parquet: it does not exist" in complaint(tmp_path / "absent.parquet")
    (tmp_path / "m.csv").write_text("video_id,video_uri\na,b\n")
    assert f"{tmp_path}/m.csv: cannot be read: " in complaint(tmp_path / "m.csv")
    pq.write_table(pa.Table.from_pylist([row()] * 1000), tmp_path / "m.parquet")
    data = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "m.parquet").write_bytes(data[:40] + b"\0" * 200 + data[240:])
    assert "m.parquet: cannot be read: " in complaint(tmp_path / "m.parquet")


def test_files_come_from_the_given_opener(write: Any) -> None:
    data = write([row()]).read_bytes()
    asked: list[str] = []

    def opener(uri: str) -> io.BytesIO:
        asked.append(uri)
        return io.BytesIO(data)

    assert isinstance(read_manifest("store://m", open_file=opener), Manifest)
    assert asked == ["store://m"]

    def refuse(uri: str) -> io.BytesIO:
        raise StorageError(f"cannot open {uri}: access denied")

    assert complaint("store://m", open_file=refuse) == "cannot open store://m: access denied"


def test_secrets_in_uris_are_not_shown(write: Any) -> None:
    text = complaint(write([row(video_uri="https://user:hunter2@host/a\n.mp4")]))
    assert "hunter2" not in text
    assert "column video_uri" in text


def test_the_schema_is_the_documented_one() -> None:
    assert [field.name for field in PROMPT] == [
        "object_id",
        "frame_index",
        "time_s",
        "points",
        "box",
        "mask",
        "category",
        "correct",
        "until_frame",
        "until_s",
    ]
    assert SCHEMA.names[:3] == ["video_id", "video_uri", "prompts"]


def test_a_pandas_frame_is_read_as_its_parquet_file_is(write: Any) -> None:
    frame = pd.DataFrame([row(*CANONICAL, site="north"), row(video_id="b", site="south")])
    from_file = read_manifest(write(frame.to_dict("records"))).table
    assert read_manifest(frame).table.cast(from_file.schema).equals(from_file)  # pandas has wider text
    flat = pd.DataFrame([{"video_id": "a", "object_id": 1, "frame_index": 0, **BOX}])
    videos = pd.DataFrame([{"video_id": "a", "video_uri": "s3://bucket/a.mp4"}])
    assert read_manifest(videos, prompts=flat).table.equals(expected(row()))


def test_what_is_no_table_is_named_by_its_type() -> None:
    assert (
        complaint(7) == "manifest has the type int; allowed are a path, a URI, and a table of pyarrow, pandas or polars"
    )
    assert complaint(pa.table({}), prompts=[row()]).startswith("prompt has the type list; allowed are a path")
    mixed = pd.DataFrame({"video_id": ["a", "b"], "video_uri": ["u", "u"], "prompts": [[prompt()], 7]})
    assert complaint(mixed).startswith("manifest: this DataFrame has no Arrow form: ")


def test_a_video_carries_its_own_values_of_other_columns_only() -> None:
    count = 2_000
    texts = [f"{at:0100}" for at in range(count)]
    columns = {
        "text": pa.array(texts),
        "view": pa.array(texts, pa.string_view()),
        "coded": pa.array(texts).dictionary_encode(),
        "list": pa.array([[text] for text in texts]),
        "far": pa.array([2**62] * count, pa.timestamp("us")),
    }
    rows = pa.Table.from_pylist([row(video_id=f"v{at}") for at in range(count)])
    video = read_manifest(pa.table({**dict(zip(rows.column_names, rows.columns, strict=True)), **columns})).video(7)
    assert len(pickle.dumps(video)) < 10_000
    assert [video.extra[name][0].as_py() for name in ("text", "view", "coded", "list")] == [*[texts[7]] * 3, [texts[7]]]
    assert video.extra["far"].type == pa.timestamp("us")
    assert "far <value out of range: " in "\n".join(describe(video))
