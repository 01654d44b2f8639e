"""Labels as SQL tables: DuckDB over the Delta tables, through Arrow, so that no DuckDB extension is downloaded."""

import csv
import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TextIO

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from pipeline.errors import StorageError, UsageError
from pipeline.labels import VIDEOS
from pipeline.labels import failures as quarantine
from pipeline.storage import Storage, Store
from pipeline.storage.paths import RUNS, progress_path, run_path
from pipeline.tables import TABLES, as_dataset, dataset, open_tables

READERS = 32
KEY_COLUMNS = (
    "video_id", "label_key", "version", "start_s", "end_s", "fps", "prompts_digest", "weights_digest", "parameters",
    "algorithm_version",
)  # fmt: skip
FAILURE_ROWS = pa.schema(
    [
        ("video_id", pa.string()), ("label_key", pa.string()), ("failure_class", pa.string()),
        ("message", pa.string()), ("traceback", pa.string()), ("worker", pa.string()), ("time", pa.string()),
        ("run_id", pa.string()), ("attempts", pa.string()),
    ]
)  # fmt: skip
"""Quarantine; attempts is JSON."""
RUN_ROWS = pa.schema(
    [("run_id", pa.string()), ("started", pa.string()), ("run", pa.string()), ("progress", pa.string())]
)
"""Runs; run (its configuration and plan) and progress are JSON: `run->>'pending'`."""


class Labels:
    """The published labels of one output: DuckDB relations `masks`, `masklets`, `videos`, `failures` and `runs`.

    Each is opened when first asked for, and then stays as it was at that moment; masks, masklets and videos are opened
    together, and agree on every video whatever is published meanwhile. All five names work in `sql`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        if not set(TABLES) & set(store.list_dirs("")):
            raise UsageError(f"{store} holds no published labels; publish them first: python -m jobs.publish {store}")
        self._connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        self._sources: dict[str, Callable[[], ds.Dataset | pa.Table]] = {
            **{name: functools.partial(self.arrow, name) for name in TABLES},
            "failures": functools.partial(read_failures, store),
            "runs": functools.partial(read_runs, store),
        }
        self._tables: dict[str, DeltaTable] | None = None
        self._datasets: dict[str, ds.Dataset] = {}
        self._opened: set[str] = set()

    def __enter__(self) -> "Labels":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB itself, with masks, masklets and videos, and what else `sql` has named so far."""
        self._open(TABLES)
        return self._connection

    @property
    def masks(self) -> duckdb.DuckDBPyRelation:
        return self.sql("FROM masks")

    @property
    def masklets(self) -> duckdb.DuckDBPyRelation:
        return self.sql("FROM masklets")

    @property
    def videos(self) -> duckdb.DuckDBPyRelation:
        return self.sql("FROM videos")

    @property
    def failures(self) -> duckdb.DuckDBPyRelation:
        return self.sql("FROM failures")

    @property
    def runs(self) -> duckdb.DuckDBPyRelation:
        return self.sql("FROM runs")

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """The answer to one SQL statement.

        Raises:
            UsageError: DuckDB does not understand the statement.
        """
        named = [name for name in self._sources if re.search(rf"\b{name}\b", query, re.IGNORECASE)]
        self._open(named or self._sources)
        try:
            return self._connection.sql(query)
        except (duckdb.ProgrammingError, duckdb.NotSupportedError) as error:
            raise UsageError(str(error)) from None

    def arrow(self, name: str) -> ds.Dataset:
        """One of masks, masklets and videos as an Arrow dataset, for pandas: `.to_table(filter=...).to_pandas()`."""
        if self._tables is None:
            self._tables = open_tables(self.store)
        if name not in self._datasets:
            found = self._tables.get(name)
            self._datasets[name] = (
                as_dataset(self.store, name, found) if found else ds.dataset(TABLES[name].empty_table())
            )
        return self._datasets[name]

    def close(self) -> None:
        self._connection.close()

    def _open(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._opened:
                self._connection.register(name, self._sources[name]())
                self._opened.add(name)


def open_labels(output: str | os.PathLike[str] | Store, *, storage: Storage | None = None) -> Labels:
    """Open the published labels of an output, a path or any fsspec URL, for SQL and Arrow.

    Raises:
        UsageError: Nothing has been published there.
        StorageError: The output cannot be read.
    """
    return Labels(output if isinstance(output, Store) else Store(output, storage=storage))


def write_answer(
    labels: Labels, query: str, out: TextIO, *, form: Literal["table", "csv", "json"] = "table", rows: int = 100
) -> None:
    """Write the answer to one statement: a table of at most `rows` rows, or all of it as CSV or JSON lines.

    Raises:
        UsageError: DuckDB does not understand the statement, or cannot execute it.
    """
    try:
        answer = labels.sql(query)
        if answer is None:  # a statement without an answer, such as CREATE TABLE
            return
        if form == "table":
            shown = answer.limit(rows + 1).fetchall()
            out.write(table_text(answer.columns, shown[:rows]) + "\n")
            if len(shown) > rows:
                out.write(f"... more than {rows} rows; --rows N shows more, --format csv or json all\n")
            return
        reader = pa.RecordBatchReader.from_stream(answer)
        write = csv.writer(out).writerow if form == "csv" else None
        if write:
            write(reader.schema.names)
        for batch in reader:
            if write:
                for values in zip(*batch.to_pydict().values(), strict=True):
                    write(values)
            else:
                for record in batch.to_pylist():
                    out.write(json.dumps(record, default=str, ensure_ascii=False) + "\n")
    except duckdb.Error as error:
        raise UsageError(str(error)) from None


def table_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Plain text columns, numbers to the right. Control characters are escaped: they may come from anywhere."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[at]) for row in cells)]) for at, name in enumerate(names)]
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(names))]
    lines = [list(names), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def labelled_videos(store: Store, columns: Sequence[str] = KEY_COLUMNS) -> pa.Table:
    """What is published: columns of the videos table, empty before the first publication.

    What whole runs have in common is dictionary-encoded, since a million copies of it take hundreds of MB.
    """
    found = dataset(store, "videos")
    if found is None:
        return pa.schema([VIDEOS.field(name) for name in columns]).empty_table()
    try:
        batches = found.to_batches(columns=list(columns), batch_size=65_536, batch_readahead=1, fragment_readahead=1)
        tables = [_with_dictionaries(pa.Table.from_batches([batch])) for batch in batches]
        return pa.concat_tables(tables).unify_dictionaries() if tables else found.schema.empty_table().select(columns)
    except OSError as error:
        raise StorageError(f"cannot read the table {store}/videos: {error}") from None


def _with_dictionaries(table: pa.Table) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if name in ("weights_digest", "parameters"):
            table = table.set_column(at, name, table[name].dictionary_encode())
    return table


def read_failures(store: Store) -> pa.Table:
    """All failure records of an output."""
    rows = [_texts(dataclasses.asdict(failure), FAILURE_ROWS) for failure in quarantine.read_failures(store)]
    return pa.Table.from_pylist(rows, schema=FAILURE_ROWS)


def read_runs(store: Store) -> pa.Table:
    """All runs of an output, the oldest first."""
    names = store.list_dirs(RUNS)
    runs = _json_records(store, [run_path(name) for name in names])
    progress = _json_records(store, [progress_path(name) for name in names])
    rows = [
        {
            "run_id": name,
            "started": run.get("started"),
            "run": json.dumps(run) if run else None,
            "progress": json.dumps(at) if at else None,
        }
        for name, run, at in zip(names, runs, progress, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=RUN_ROWS)


def _json_records(store: Store, paths: Sequence[str]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(READERS) as threads:
        return [json.loads(data) if data else {} for data in threads.map(store.read_or_none, paths)]


def _texts(record: dict[str, Any], schema: pa.Schema) -> dict[str, str | None]:
    values = {name: record.get(name) for name in schema.names}
    return {name: v if v is None or isinstance(v, str) else json.dumps(v) for name, v in values.items()}
