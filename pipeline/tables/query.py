"""Labels as SQL tables: DuckDB over the Delta tables, through Arrow, so that no DuckDB extension is downloaded."""

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from pipeline.errors import UsageError
from pipeline.storage import Storage, Store
from pipeline.tables import TABLES, as_dataset, open_tables
from pipeline.tables.output import require_output
from pipeline.tables.records import read_failures, read_runs


class Labels:
    """The published labels of one output: DuckDB relations `masks`, `masklets`, `videos`, `failures` and `runs`.

    Each is opened at its first use and keeps that version. masks, masklets and videos are opened together and agree on
    every video, even during a publication. All five names work in `sql`.
    """

    def __init__(self, store: Store, *, tables: Mapping[str, ds.Dataset] | None = None) -> None:
        """Open the published labels of an output, or `tables`: other labels of it, as masks, masklets and videos."""
        self.store = store
        require_output(store)
        if tables is None and not set(TABLES) & set(store.list_dirs("")):
            raise UsageError(f"{store} holds no published labels; publish them first: python -m jobs.publish {store}")
        self._connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            }
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._sources: dict[str, Callable[[], ds.Dataset | pa.Table]] = {
            **{name: functools.partial(self.arrow, name) for name in TABLES},
            "failures": functools.partial(read_failures, store),
            "runs": functools.partial(read_runs, store),
        }
        self._tables: dict[str, DeltaTable] | None = None
        self._datasets: dict[str, ds.Dataset] = dict(tables or {})
        self._opened: set[str] = set()

    def __enter__(self) -> "Labels":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection, with masks, masklets and videos, and the other tables that `sql` has used so far."""
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
