"""Commits to one table: rows of some videos replaced atomically, by the newest publisher only, with retries."""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
from deltalake import DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from pipeline.errors import StorageError
from pipeline.storage import Store, redact
from pipeline.tables.commit_metadata import (
    batch_of,
    commit_metadata,
    epoch_of,
    holds_commit,
    new_commit_id,
    refuse_if_superseded,
    version_before_batch,
)
from pipeline.tables.delta import HOOKS, TABLES, create_table, open_table, schema_of

log = logging.getLogger(__name__)
T = TypeVar("T")

Rows = Callable[[], Iterator[pa.Table]]
"""Makes the rows of a commit; called for each attempt."""
TARGET_FILE_BYTES = 256 * 2**20
ROW_GROUP_ROWS = 65_536
"""Also the rows of a batch given to delta-rs, which may reorder batches but not the rows in them."""
MAX_ATTEMPTS = 8


def replace_videos(
    store: Store,
    name: str,
    video_ids: Sequence[str],
    rows: Rows,
    *,
    schema: pa.Schema,
    epoch: int,
    batch: int | None = None,
) -> int:
    """Replace all rows of these videos in one commit; returns the bytes of the files written.

    Args:
        store: the output.
        name: the table.
        video_ids: at least one.
        rows: makes the new rows; called again when another writer commits first.
        schema: that of the rows; columns that the table does not have are added to it.
        epoch: number of the publisher epoch.
        batch: number of the batch that is written to all three tables, if it is one.

    Raises:
        SupersededError: A later publisher has taken over.
        StorageError: The table cannot be written.
    """
    return _commit(store, _Overwrite(store, name, rows, any_of(video_ids), schema, epoch, batch=batch), MAX_ATTEMPTS)


def rewrite_rows(store: Store, name: str, rows: Rows, *, predicate: str, epoch: int, pinned: DeltaTable) -> int:
    """Replace what the predicate matches in the `pinned` version by the same rows in another order.

    Returns the bytes of the files written. One attempt: it fails if another writer has committed since.

    Raises:
        SupersededError: A later publisher has taken over.
        StorageError: The table cannot be written, or has a newer version.
    """
    return _commit(store, _Overwrite(store, name, rows, predicate, schema_of(pinned), epoch, pinned=pinned), 1)


def fence(store: Store, epoch: int) -> None:
    """Commit the epoch's number to every table; commits of earlier publishers are refused from then on."""
    for name in TABLES:
        commit_numbers(store, name, epoch)


def commit_numbers(store: Store, name: str, epoch: int, *, batch: int | None = None) -> None:
    """Commit these numbers, and no rows, to a table that exists and does not have them yet."""

    def write() -> None:
        table = open_table(store, name)
        if table is None or (epoch_of(table) == epoch and batch in (None, batch_of(table))):
            return
        refuse_if_superseded(epoch_of(table), epoch, store)
        table.create_write_transaction(
            [],
            "append",
            table.schema(),
            commit_properties=commit_metadata(epoch, batch=batch),
            post_commithook_properties=HOOKS,
        )

    _retried(store, name, write, MAX_ATTEMPTS)


def newest_epoch(store: Store) -> int:
    """The highest epoch in any table: the next one must be higher, also if the lease files are lost."""
    return max((epoch_of(table) for name in TABLES if (table := open_table(store, name))), default=0)


@dataclass
class _Overwrite:
    """One overwrite of a table's rows, attempted until it is committed.

    delta-rs fails if the response to a commit is lost, so before each further attempt the versions since the last one
    are searched for this commit.
    """

    store: Store
    name: str
    rows: Rows
    predicate: str
    schema: pa.Schema
    epoch: int
    batch: int | None = None
    pinned: DeltaTable | None = None
    commit_id: str = field(default_factory=new_commit_id)
    base: DeltaTable | None = None
    """The version that the last attempt was made on."""
    files_before: frozenset[str] = frozenset()

    def attempt(self) -> DeltaTable:
        """Commit, unless an earlier attempt has succeeded; returns the table afterwards."""
        newest = self.pinned if self.pinned and self.base is None else create_table(self.store, self.name)
        if self._is_committed(newest):
            return newest
        refuse_if_superseded(epoch_of(newest), self.epoch, self.store)
        self.base = self.pinned or newest
        self.files_before = frozenset(_files(self.base))
        self._write(self.base)
        return open_table(self.store, self.name) or self.base

    def _is_committed(self, newest: DeltaTable) -> bool:
        if self.base is None:
            return False
        since = range(self.base.version() + 1, newest.version() + 1)
        return holds_commit(self.store, self.name, since, self.commit_id)

    def _write(self, table: DeltaTable) -> None:
        target = merged_schema(schema_of(table), self.schema)
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(target, _batches(self.rows(), target)),
            mode="overwrite",
            predicate=self.predicate,
            schema_mode="merge" if len(target) > len(table.schema().fields) else None,
            target_file_size=TARGET_FILE_BYTES,
            writer_properties=writer_properties(),
            commit_properties=commit_metadata(
                self.epoch, commit_id=self.commit_id, batch=self.batch, before=self._version_before(table)
            ),
            post_commithook_properties=HOOKS,
        )

    def _version_before(self, table: DeltaTable) -> int | None:
        """The version before the batch, also if an interrupted publisher has begun it."""
        if self.batch is None:
            return None
        return version_before_batch(table) if batch_of(table) == self.batch else table.version()


def _commit(store: Store, overwrite: _Overwrite, max_attempts: int) -> int:
    after = _retried(store, overwrite.name, overwrite.attempt, max_attempts)
    return sum(size for path, size in _files(after).items() if path not in overwrite.files_before)


def _retried(store: Store, name: str, write: Callable[[], T], max_attempts: int) -> T:
    for number in range(1, max_attempts + 1):
        try:
            return store.with_retries(write, "write the table", name, passes=(CommitFailedError,))
        except CommitFailedError as error:
            if number == max_attempts:
                raise StorageError(f"cannot commit to the table {store}/{name}: {redact(str(error))}") from None
            log.warning("another writer committed to the table %s first; retrying", name)
            time.sleep(random.uniform(0, 0.2 * 2**number))
    raise AssertionError("unreachable")


def any_of(video_ids: Sequence[str]) -> str:
    """The SQL predicate of these videos; with their range, by which delta-rs skips files."""
    literals = [text_literal(video_id) for video_id in sorted(video_ids)]
    return f"video_id >= {literals[0]} AND video_id <= {literals[-1]} AND video_id IN ({', '.join(literals)})"


def text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def merged_schema(table: pa.Schema, rows: pa.Schema) -> pa.Schema:
    """The table's columns and then the new ones of `rows`."""
    names = set(table.names)
    return pa.schema([*table, *(field.with_nullable(True) for field in rows if field.name not in names)])


def conform(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with exactly the columns of `schema`, absent ones null."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def writer_properties() -> WriterProperties:
    return WriterProperties(compression="ZSTD", max_row_group_size=ROW_GROUP_ROWS, statistics_truncate_length=64)


def _batches(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of a row group's size each, so that sorted rows stay sorted."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(conform(table, schema))
        rows += table.num_rows
        while rows >= ROW_GROUP_ROWS:
            together = pa.concat_tables(waiting).combine_chunks()
            yield from together.slice(0, ROW_GROUP_ROWS).to_batches()
            waiting = [together.slice(ROW_GROUP_ROWS)]
            rows -= ROW_GROUP_ROWS
    if rows:
        yield from pa.concat_tables(waiting).combine_chunks().to_batches()


def _files(table: DeltaTable) -> dict[str, int]:
    added = pa.table(table.get_add_actions())
    return dict(zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), strict=True))
