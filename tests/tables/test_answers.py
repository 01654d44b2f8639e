"""Every type that a query can give, in every form of output, without a time zone library."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs import query as query_job
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.labels.columns import COMMENTS, with_comments
from pipeline.storage import Store
from pipeline.tables.answers import CELL_CHARACTERS, FORMS, table_text, write_answer
from pipeline.tables.delta import TABLES
from pipeline.tables.query import Labels, open_labels
from pipeline.tables.records import FAILURE_ROWS, RUN_ROWS
from tests.tables.test_query import make_labels


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_labels(Store(tmp_path_factory.mktemp("answers")))


@pytest.fixture
def labels(output: Store, monkeypatch: pytest.MonkeyPatch) -> Labels:
    monkeypatch.setitem(sys.modules, "pytz", None)  # importing it fails
    return open_labels(output)


SAME: Any = object()
TYPES: list[tuple[str, str, str, Any]] = [
    # SQL, cell of a table, field of CSV (SAME), value of JSON
    ("'2026-01-02 03:04:05.5+02'::TIMESTAMPTZ", "2026-01-02 01:04:05.5+00", SAME, "2026-01-02 01:04:05.5+00"),
    ("'2026-01-02 03:04:05'::TIMESTAMP", "2026-01-02 03:04:05", SAME, "2026-01-02 03:04:05"),
    ("'2026-01-02 03:04:05.123456789'::TIMESTAMP_NS", "2026-01-02 03:04:05.123456789", SAME, SAME),
    ("'infinity'::TIMESTAMP", "infinity", SAME, "infinity"),
    ("'290000-01-01'::DATE", "290000-01-01", SAME, "290000-01-01"),
    ("TIME '01:02:03.5'", "01:02:03.5", SAME, "01:02:03.5"),
    ("'01:02:03+02'::TIMETZ", "01:02:03+02", SAME, "01:02:03+02"),
    ("INTERVAL '1 month 2 days 3.5 seconds'", "1 month 2 days 00:00:03.5", SAME, "1 month 2 days 00:00:03.5"),
    ("1.250::DECIMAL(18,3)", "1.250", SAME, 1.25),
    ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727", SAME, 2**127 - 1),
    ("18446744073709551615::UBIGINT", "18446744073709551615", SAME, 2**64 - 1),
    ("340282366920938463463374607431768211455::UHUGEINT", "340282366920938463463374607431768211455", SAME, 2**128 - 1),
    ("'nan'::DOUBLE", "nan", SAME, None),
    ("'-inf'::FLOAT", "-inf", SAME, None),
    ("0.1::DOUBLE", "0.1", SAME, 0.1),
    ("['nan'::DOUBLE, 1, NULL]", "[NaN,1.0,null]", SAME, [None, 1.0, None]),
    ("'say NaN, \"Infinity\"'", 'say NaN, "Infinity"', SAME, 'say NaN, "Infinity"'),
    ("true", "true", SAME, True),
    ("NULL", "", SAME, None),
    ("{'a': 1, 'b': [1, NULL]}", '{"a":1,"b":[1,null]}', SAME, {"a": 1, "b": [1, None]}),
    ("{'t': '2026-01-01 00:00:00+00'::TIMESTAMPTZ}", '{"t":"2026-01-01 00:00:00+00"}', SAME, SAME),
    ("MAP {'k': 1.5, 'l': NULL}", '{"k":1.5,"l":null}', SAME, {"k": 1.5, "l": None}),
    ("[]", "[]", SAME, []),
    ("[1, 2]::INTEGER[2]", "[1,2]", SAME, [1, 2]),
    ("union_value(num := 2)", '{"num":2}', SAME, {"num": 2}),
    ("'ab\\x00'::BLOB", "ab\\\\x00", "ab\\x00", "ab\\x00"),
    ("'101'::BIT", "101", SAME, "101"),
    ("'00000000-0000-0000-0000-00000000000a'::UUID", "00000000-0000-0000-0000-00000000000a", SAME, SAME),
    ("'x'::ENUM('x', 'y')", "x", SAME, "x"),
]


def written(labels: Labels, query: str, form: Any) -> str:
    out = io.StringIO()
    write_answer(labels, query, out, form=form)
    return out.getvalue()


@pytest.mark.parametrize(("sql", "cell", "field", "value"), TYPES, ids=[sql for sql, *_ in TYPES])
def test_each_type_has_one_spelling_in_each_form(labels: Labels, sql: str, cell: str, field: Any, value: Any) -> None:
    query = f"SELECT {sql} AS v"
    plain = cell.replace("\\\\", "\\")
    shown = written(labels, query, "table").splitlines()
    assert (shown[2].strip() if len(shown) > 2 else "") == plain
    ((name,), (text,)) = list(csv.reader(io.StringIO(written(labels, query, "csv"))))[:2]
    assert (name, text) == ("v", plain if field is SAME else field)
    (line,) = written(labels, query, "json").splitlines()
    refused: list[str] = []
    found = json.loads(line, parse_constant=refused.append)["v"]
    assert found == (plain_json(plain) if value is SAME else value)
    assert refused == []


def plain_json(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else text


def test_all_columns_of_all_tables_are_written_in_every_form(labels: Labels) -> None:
    for name, schema in {"videos": VIDEOS, "masks": MASKS, "masklets": MASKLETS}.items():
        assert set(schema.names) <= set(labels.sql(f"FROM {name}").columns)
        for form in FORMS:
            text = written(labels, f"SELECT * FROM {name} ORDER BY ALL", form)
            assert "v4" in text
        first = json.loads(written(labels, f"SELECT * FROM {name} ORDER BY ALL", "json").splitlines()[0])
        assert list(first) == labels.sql(f"FROM {name}").columns


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # DuckDB's, of pandas
def test_pandas_and_arrow_take_videos_without_pytz(labels: Labels) -> None:
    frame = labels.videos.df()
    assert str(frame["published_at"].dtype).startswith("datetime64[us, ")
    assert frame["published_at"].dt.year.min() >= 2026
    table = pa.table(labels.videos.to_arrow_table())
    assert table.schema.field("committed_at").type.tz
    assert table.num_rows == 5


def test_columns_of_one_name_are_told_apart(labels: Labels) -> None:
    assert written(labels, "SELECT 1 AS a, 2 AS a", "csv").splitlines() == ["a,a", "1,2"]
    assert json.loads(written(labels, "SELECT 1 AS a, 2 AS a", "json")) == {"a": 1, "a_1": 2}


def test_long_cells_are_cut_in_tables_only(labels: Labels) -> None:
    query = "SELECT repeat('x', 100) AS long, 1 AS n"
    lines = written(labels, query, "table").splitlines()
    assert lines[2].split() == ["x" * (CELL_CHARACTERS - 1) + "…", "1"]
    assert "--format csv or json" in lines[3]
    assert "x" * 100 in written(labels, query, "csv")
    assert "x" * 100 in written(labels, query, "json")
    assert written(labels, "SELECT 'short' AS s", "table").count("\n") == 3
    assert max(map(len, written(labels, "SELECT run, progress FROM runs", "table").splitlines())) < 130


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert table_text(["a"], [["\x1b[31mred"], [None], [1.5]]).splitlines()[2:] == ["\\x1b[31mred", "", "1.5"]
    assert table_text(["\x1b"], []).splitlines()[0] == "\\x1b"


def test_runs_and_failures_have_plain_columns(output: Store, labels: Labels) -> None:
    progress: dict[str, Any] = {
        "state": "ended",
        "videos": 5,
        "done": 3,
        "failed": {"decode": 1, "storage": 1},
        "frames": 12.0,
    }
    progress |= {"started": 10.0, "now": 14.5, "gpu_hours": 0, "actor_hours": 0.5, "masks": 24.0}
    run: dict[str, Any] = {
        "started": "2026-01-02T00:00:00Z",
        "videos": 7,
        "pending": 5,
        "configuration": {"model": "m", "manifest": "x"},
    }
    output.put("runs/run-2/run.json", json.dumps(run).encode())
    output.put("runs/run-2/progress.json", json.dumps(progress).encode())
    with open_labels(output) as labels:
        found = labels.sql(
            "SELECT state, seconds, videos, pending, done, failed, frames, model FROM runs ORDER BY run_id"
        )
        assert found.fetchall() == [
            (None, None, 5, None, None, None, None, None),
            ("ended", 4.5, 7, 5, 3, 2, 12, "m"),
        ]
        assert labels.sql("SELECT attempt_count, attempts->0->>'n' FROM failures").fetchall() == [(1, "1")]
        assert labels.sql("SELECT progress->>'done' FROM runs ORDER BY run_id DESC LIMIT 1").fetchall() == [("3",)]


def test_every_column_is_described(output: Store, capsys: pytest.CaptureFixture[str]) -> None:
    schemas = {**TABLES, "failures": FAILURE_ROWS, "runs": RUN_ROWS}
    assert {name: set(said) for name, said in COMMENTS.items()} == {n: set(s.names) for n, s in schemas.items()}
    assert query_job.main([str(output), "--describe"]) == 0
    said = capsys.readouterr().out
    for name, comments in COMMENTS.items():
        assert f"{name}\n\ncolumn" in said
        assert all(comment in said for comment in comments.values())
    assert "site" in said
    assert query_job.main([str(output)]) == query_job.main([str(output), "SELECT 1", "--describe"]) == 2
    assert "give one SQL statement, or --describe" in capsys.readouterr().err
    field = with_comments("masks", MASKS).field("area")
    assert field.metadata == {b"comment": b"pixels of the mask"}


def test_planning_and_running_load_no_duckdb(tmp_path: Path) -> None:
    code = "import sys, pipeline.runs.run, pipeline.runs.nightly.night; print('duckdb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"


def test_a_table_wider_than_the_terminal_has_a_line_for_each_value(labels: Labels) -> None:
    query = "SELECT 'a' AS first, repeat('x', 100) AS long FROM range(2)"
    out = io.StringIO()
    write_answer(labels, query, out, width=60)
    cut = "x" * (CELL_CHARACTERS - 1) + "…"
    assert out.getvalue().startswith(f"first  a\nlong   {cut}\n\nfirst  a\nlong   {cut}\n... cells of more than")
    narrow, piped = io.StringIO(), io.StringIO()
    write_answer(labels, "SELECT 1 AS a, 2 AS b", narrow, width=60)
    assert narrow.getvalue() == "a  b\n-  -\n1  2\n"
    write_answer(labels, query, piped)
    assert piped.getvalue().startswith("first  long")
