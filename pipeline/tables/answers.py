"""Answers of DuckDB as text: a table for people, CSV, or JSON lines. DuckDB itself formats every value.

So each DuckDB type has one format, and neither a matching Python type nor a time zone library is needed.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TextIO, get_args

import duckdb
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.labels.columns import COMMENTS
from pipeline.tables.query import Labels

Form = Literal["table", "csv", "json"]
FORMS: tuple[Form, ...] = get_args(Form)
CELL_CHARACTERS = 64
"""Longest cell of a table; longer ones are cut. A label key has this length."""
_NUMBERS = {
    "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint",
    "float", "double", "decimal",
}  # fmt: skip
_NESTED = {"list", "array", "struct", "tuple", "map", "union"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b')
"""A JSON text, or a number that JSON does not have."""


def write_answer(
    labels: Labels, query: str, out: TextIO, *, form: Form = "table", rows: int = 100, width: int | None = None
) -> None:
    """Write the answer to one statement: a table of at most `rows` rows, or all of it as CSV or JSON lines.

    A table that is wider than `width` characters, those of a terminal, has a line for each value instead.

    Raises:
        UsageError: DuckDB does not understand the statement, or cannot execute it.
    """
    try:
        answer = labels.sql(query)
        if answer is None:  # a statement without an answer, such as CREATE TABLE
            return
        match form:
            case "table":
                _write_table(answer, out, rows, width)
            case "csv":
                _write_csv(answer, out)
            case "json":
                _write_json(answer, out)
    except duckdb.Error as error:
        raise UsageError(str(error)) from None


def write_description(labels: Labels, out: TextIO) -> None:
    """Write every table's columns with their types and what they hold."""
    for at, (name, comments) in enumerate(COMMENTS.items()):
        table = labels.sql(f"FROM {name}")
        rows = [
            [column, str(kind), comments.get(column, "column of the manifest")]
            for column, kind in zip(table.columns, table.types, strict=True)
        ]
        text = table_text(["column", "type", "what it holds"], rows, cell_characters=None)
        out.write(f"{'' if at == 0 else chr(10)}{name}\n\n{text}\n")


def table_text(
    names: Sequence[str], rows: Sequence[Sequence[Any]], *, cell_characters: int | None = CELL_CHARACTERS
) -> str:
    """Plain text columns, numbers to the right. Control characters, which untrusted values may have, are escaped."""
    numeric = [all(value is None or not isinstance(value, str) for value in column) for column in _columns(names, rows)]
    cells = [[_cell(value, cell_characters) for value in row] for row in rows]
    titles = [_cell(name, cell_characters) for name in names]
    widths = [max(len(text) for text in column) for column in zip(titles, *cells, strict=True)]
    lines = [titles, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def records_text(
    names: Sequence[str], rows: Sequence[Sequence[Any]], *, cell_characters: int | None = CELL_CHARACTERS
) -> str:
    """Plain text with a line for each value, the rows one below the other."""
    titles = [_cell(name, cell_characters) for name in names]
    width = max(map(len, titles))
    return "\n\n".join(
        "\n".join(
            f"{title.ljust(width)}  {_cell(value, cell_characters)}".rstrip()
            for title, value in zip(titles, row, strict=True)
        )
        for row in rows
    )


def _write_table(answer: duckdb.DuckDBPyRelation, out: TextIO, rows: int, width: int | None) -> None:
    found = _texts(answer, numbers=True).limit(rows + 1).fetchall()
    shown = found[:rows]
    text = table_text(answer.columns, shown)
    if width is not None and shown and max(map(len, text.splitlines())) > width:
        text = records_text(answer.columns, shown)
    out.write(text + "\n")
    if any(isinstance(value, str) and len(value) > CELL_CHARACTERS for row in shown for value in row):
        out.write(f"... cells of more than {CELL_CHARACTERS} characters are cut; --format csv or json has them whole\n")
    if len(found) > rows:
        out.write(f"... more than {rows} rows; --rows N shows more, --format csv or json all\n")


def _write_csv(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    writer = csv.writer(out)
    writer.writerow(answer.columns)
    writer.writerows(_all(_texts(answer)))


def _write_json(answer: duckdb.DuckDBPyRelation, out: TextIO) -> None:
    """One object per line; NaN and the infinities, which JSON does not have, become null."""
    records = _select("CAST(to_json(answer) AS VARCHAR) AS record FROM answer", answer)
    for (record,) in _all(records):
        out.write(_TOKEN.sub(lambda found: found[0] if found[0].startswith('"') else "null", record or "") + "\n")


def _texts(answer: duckdb.DuckDBPyRelation, *, numbers: bool = False) -> duckdb.DuckDBPyRelation:
    """The answer with every column as text, or with `numbers` those of numbers as they are."""
    names = [f"c{at}" for at in range(len(answer.columns))]  # names of the answer may repeat
    texts = [f"{_text(name, kind.id, numbers)} AS {name}" for name, kind in zip(names, answer.types, strict=True)]
    return _select(f"{', '.join(texts)} FROM answer AS t({', '.join(names)})", answer)


def _select(columns: str, answer: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    selected = answer.query("answer", f"SELECT {columns}")
    assert selected is not None
    return selected


def _text(name: str, kind: str, numbers: bool) -> str:
    if numbers and kind in _NUMBERS:
        return name
    return f"CAST({f'to_json({name})' if kind in _NESTED else name} AS VARCHAR)"


def _all(texts: duckdb.DuckDBPyRelation) -> Iterator[tuple[str | None, ...]]:
    """The rows of an answer whose columns are all text, streamed."""
    for batch in pa.RecordBatchReader.from_stream(texts):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[row[at] for row in rows] for at in range(len(names))]


def _cell(value: Any, characters: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if characters is None or len(text) <= characters else text[: characters - 1] + "…"
