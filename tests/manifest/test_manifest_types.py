"""Every column in every type that Parquet knows: taken or refused by name, and never a traceback."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import prompt_digests, read_manifest
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row

ODD = [
    pa.nulls(1),
    pa.array([True]),
    pa.array([-128], pa.int8()),
    pa.array([2**64 - 1], pa.uint64()),
    pa.array([3], pa.uint8()),
    pa.array([1.5], pa.float32()),
    pa.array([np.float16(3)], pa.float16()),
    pa.array([float("nan")]),
    pa.array([-1e300]),
    pa.array([decimal.Decimal("1.50")]),
    pa.array([decimal.Decimal(10**37)], pa.decimal128(38, 0)),
    pa.array([decimal.Decimal(10**60)], pa.decimal256(61, 0)),
    pa.array(["text"]),
    pa.array([""], pa.large_string()),
    pa.array(["view"], pa.string_view()),
    pa.array(["kept"]).dictionary_encode(),
    pa.array([b"\xff\0"]),
    pa.array([b"ab"], pa.binary(2)),
    pa.array([datetime.date(2026, 1, 1)]),
    pa.array([datetime.datetime(2026, 1, 1)], pa.timestamp("ns", "UTC")),
    pa.array([datetime.timedelta(seconds=1)]),
    pa.array([[]], pa.list_(pa.null())),
    pa.array([[1, None]], pa.large_list(pa.int64())),
    pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
    pa.array([["a"]]),
    pa.array([[[1]]]),
    pa.array([[None]], pa.list_(pa.struct([("x", pa.int8())]))),
    pa.array([[("x", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array([{"x": None}], pa.struct([("x", pa.null())])),
    pa.array([{"x": 1.0, "y": [1]}]),
]
COLUMNS = [
    "video_id",
    "video_uri",
    "prompts",
    "start_s",
    "end_s",
    "video_version",
    "num_frames",
    "priority",
    "label_fps",
    "label_every",
    "site",
]
FIELDS = {
    "prompt": prompt(),
    "object_id": prompt(),
    "frame_index": prompt(),
    "time_s": prompt(time_s=1.0),
    "points": prompt(points=[POINT]),
    "box": prompt(),
    "mask": prompt(mask=MASK),
    "category": prompt(),
    "correct": prompt(),
    "until_frame": prompt(until_frame=5),
    "until_s": prompt(until_s=2.5),
    "box.x_min": prompt(),
    "mask.size": prompt(mask=MASK),
    "mask.counts": prompt(mask=MASK),
    "points.x": prompt(points=[POINT]),
    "points.label": prompt(points=[POINT]),
}


def attempt(table: dict[str, Any], path: Path) -> None:
    pq.write_table(pa.table(table), path)
    try:
        manifest = read_manifest(path, on_bad_row="skip")
    except ManifestError as error:
        text = str(error)
        assert "column" in text
    else:
        assert len(manifest) + len(manifest.bad_rows) == 1
        text = "".join(map(str, manifest.bad_rows))
        assert len(prompt_digests(manifest)) == len(manifest)
        for i in range(len(manifest)):
            manifest.video(i)
    assert text.isprintable()
    assert len(text) < 800


def listed(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def struct(fields: dict[str, pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


@pytest.mark.parametrize("column", COLUMNS)
def test_columns(tmp_path: Path, column: str) -> None:
    for odd in ODD:
        attempt({**{name: pa.array([value]) for name, value in row().items()}, column: odd}, tmp_path / "m.parquet")


@pytest.mark.parametrize("field", FIELDS)
def test_fields(tmp_path: Path, field: str) -> None:
    for odd in ODD:
        fields = {name: pa.array([value]) for name, value in FIELDS[field].items()}
        outer, _, inner = field.partition(".")
        if outer == "points" and inner:
            point = {name: pa.array([value]) for name, value in POINT.items()}
            fields["points"] = listed(struct({**point, inner: odd}))
        elif inner:
            part = {name: pa.array([value]) for name, value in (BOX if outer == "box" else MASK).items()}
            fields[outer] = struct({**part, inner: odd})
        else:
            fields[outer] = odd
        prompts = listed(odd if field == "prompt" else struct(fields))
        attempt({"video_id": ["a"], "video_uri": ["u"], "prompts": prompts}, tmp_path / "m.parquet")
