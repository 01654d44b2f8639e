"""Extra manifest columns keep their Arrow type in the videos table, in any order of rows, and can be queried."""

import datetime as dt
import itertools
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from pipeline.labels import video_table
from pipeline.storage import Store
from pipeline.tables import publish
from pipeline.tables.extras import delta_type, videos_rows
from pipeline.tables.query import open_labels
from tests.tables.corpora import commit, key, want

A = key("a")
NAIVE, FAR = dt.datetime(2026, 1, 2, 3, 4, 5), pa.scalar(2**62, pa.timestamp("us"))
COLUMNS: dict[str, tuple[pa.Array, pa.DataType]] = {
    "hash": (pa.array([1, 2**64 - 7], pa.uint64()), pa.decimal128(20, 0)),
    "small": (pa.array([1, 255], pa.uint8()), pa.int16()),
    "map": (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), pa.map_(pa.string(), pa.int64())),
    "tags": (pa.array([["night"], []], pa.list_(pa.string())), pa.list_(pa.string())),
    "vector": (pa.array([[1.5, None], []], pa.large_list(pa.float32())), pa.list_(pa.float32())),
    "price": (pa.array([Decimal("1.25"), Decimal("-7")], pa.decimal128(9, 2)), pa.decimal128(9, 2)),
    "naive": (pa.array([NAIVE, None], pa.timestamp("ms")), pa.timestamp("us")),
    "far": (pa.array([FAR, None], pa.timestamp("us")), pa.timestamp("us")),
    "zoned": (pa.array([NAIVE, None], pa.timestamp("ns", tz="Europe/Berlin")), pa.timestamp("us", tz="UTC")),
    "site": (pa.array(["north", "south"]).dictionary_encode(), pa.string()),
    "place": (pa.array([{"x": 1, "y": ["a"]}, None]), pa.struct([("x", pa.int64()), ("y", pa.list_(pa.string()))])),
    "blob": (pa.array([b"\xff\x00", b""], pa.binary()), pa.binary()),
    "day": (pa.array([dt.date(2026, 1, 2), None], pa.date64()), pa.date32()),
    "clock": (pa.array([dt.time(1, 2), None], pa.time32("s")), pa.string()),
    "span": (pa.array([dt.timedelta(1), None]), pa.string()),
    "wide": (pa.array([Decimal(10) ** 50, None], pa.decimal256(60, 0)), pa.string()),
    "half": (pa.array([1.5, None], pa.float16()), pa.float32()),
}


def video(name: str, **extra: pa.Array) -> pa.Table:
    row = {"video_id": name, "label_key": A, "outcome": "labelled", "uri": "u", "extra": pa.table(extra)}
    return video_table(row)


def types(table: pa.Table, names: Any = COLUMNS) -> dict[str, pa.DataType]:
    return {name: table.schema.field(name).type for name in names}


def test_every_type_is_published_and_queried_in_any_order_of_rows(tmp_path: Any) -> None:
    found = {}
    for at, order in enumerate(([0, 1], [1, 0])):
        store = Store(tmp_path / str(at))
        for step, row in enumerate(order):
            columns = {name: array.slice(row, 1) for name, (array, _) in COLUMNS.items()}
            commit(store, f"v{row}", A, extra=pa.table(columns))
            want(store, str(step), {f"v{row}": A})
            publish(store)
        with open_labels(str(store)) as labels:
            read = labels.arrow("videos").to_table().sort_by("video_id")
            told = labels.sql("SELECT * FROM videos ORDER BY video_id").to_arrow_table()
        assert told.num_rows == 2
        for name, (array, expected) in COLUMNS.items():
            kind = read.schema.field(name).type
            assert kind.equals(expected) or str(kind).replace("element", "item") == str(expected), name
            if kind == array.type:
                assert read[name].combine_chunks().equals(array), name
        assert read["hash"].to_pylist() == [1, 2**64 - 7]
        assert read["map"].to_pylist() == [[("k", 1)], []]
        assert read["tags"].to_pylist() == [["night"], []]
        assert read["clock"].to_pylist() == ['"01:02:00"', None]
        found[at] = read.select(sorted(COLUMNS))
    assert found[0].equals(found[1])


def test_a_type_does_not_depend_on_which_rows_come_first() -> None:
    rows = [
        video("a", tags=pa.array([[]], pa.list_(pa.string())), hash=pa.array([7], pa.uint64())),
        video("b", tags=pa.array([["x"]], pa.list_(pa.string())), hash=pa.array([2**63], pa.uint64())),
        video("c", tags=pa.array([[]], pa.list_(pa.null()))),  # as release 0.1.0 kept an empty list
    ]
    schemas = {str(videos_rows(order, pa.schema([])).schema) for order in itertools.permutations(rows)}
    assert len(schemas) == 1
    table = videos_rows(rows, pa.schema([]))
    assert table["tags"].to_pylist() == [[], ["x"], []]
    assert table["hash"].to_pylist() == [7, 2**63, None]


def test_columns_that_0_1_0_made_take_the_values_that_fit() -> None:
    old = pa.schema([("hash", pa.int64()), ("place", pa.string()), ("site", pa.string())])
    rows = [
        video("a", hash=pa.array([7], pa.uint64()), place=pa.array([{"x": 1}]), site=pa.array([7])),
        video("b", hash=pa.array([2**63], pa.uint64()), place=pa.array([{"x": 2}]), site=pa.array(["north"])),
    ]
    table = videos_rows(rows, old)
    assert table["hash"].to_pylist() == [7, None]
    assert table["hash_decimal"].to_pylist() == [None, 2**63]
    assert table["place"].to_pylist() == ['{"x": 1}', '{"x": 2}']
    assert (table["site"].to_pylist(), table["site_int64"].to_pylist()) == ([None, "north"], [7, None])


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([]),
        pa.struct([("a", pa.int8()), ("A", pa.int8())]),
        pa.list_(pa.time64("ns")),
        pa.map_(pa.string(), pa.duration("s")),
        pa.decimal128(5, -2),
        pa.null(),
        pa.month_day_nano_interval(),
    ],
)
def test_types_that_delta_cannot_hold_become_text(kind: pa.DataType) -> None:
    assert delta_type(kind) is None
