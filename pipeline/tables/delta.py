"""The three Delta tables: created, opened, and replaced for some videos in one atomic commit."""

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable, PostCommitHookProperties, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipeline.errors import StorageError, UsageError
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.storage import Store, redact
from pipeline.storage.format_version import FORMAT, check_format
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, VIDEOS_TABLE
from pipeline.tables.marks import batch_of, before_of, holds_commit, marks, new_commit, refuse_if_superseded, turn_of

log = logging.getLogger(__name__)
T = TypeVar("T")

TABLES = {MASKS_TABLE: MASKS, MASKLETS_TABLE: MASKLETS, VIDEOS_TABLE: VIDEOS}
"""In the order in which they are written: the videos table says what is published, so it comes last."""
TARGET_FILE_BYTES = 256 * 2**20
ROW_GROUP_ROWS = 65_536
"""Also the rows of a batch given to delta-rs, which may reorder batches but not the rows in them."""
COMMIT_TRIES = 8
FORMAT_PROPERTY = "sam2-corpus.format"
"""The table property that states the format version; absent in tables that release 0.1.0 created."""
HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""delta-rs' own clean-up deletes other people's files in subfolders of the log; see `vacuum`."""
_CONFIGURATION = {
    FORMAT_PROPERTY: str(FORMAT),
    # counts and parameters are long strings whose extremes tell nothing
    "delta.dataSkippingStatsColumns": "video_id,label_key",
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


def open_table(store: Store, name: str, *, version: int | None = None) -> DeltaTable | None:
    """A table as it is now, or was; None when nothing has been published yet, or the version is history no more.

    Raises:
        UsageError: It is a Delta table of somebody else, or of a newer release.
    """
    options, where = store.deltalake_options() or None, _location(store, name)
    missing = TableNotFoundError if version is None else DeltaError
    try:
        opened = partial(DeltaTable, where, version=version, storage_options=options)
        table = store.attempt(opened, "open the table", name, passes=(missing,))
    except missing:
        return None
    _check_ours(table, f"{store}/{name}")
    return table


def create_table(store: Store, name: str) -> DeltaTable:
    """The table, created with its schema where it is not there."""
    if (found := open_table(store, name)) is not None:
        return found
    options, where = store.deltalake_options() or None, _location(store, name)

    def create() -> DeltaTable:
        DeltaTable.create(
            where,
            TABLES[name],
            mode="ignore",
            configuration=_CONFIGURATION,
            storage_options=options,
            post_commithook_properties=HOOKS,
            raise_if_key_not_exists=False,
        )
        return DeltaTable(where, storage_options=options)

    return store.attempt(create, "create the table", name)


def replace_videos(
    store: Store,
    name: str,
    video_ids: Sequence[str],
    rows: Callable[[], Iterator[pa.Table]],
    *,
    schema: pa.Schema,
    turn: int,
    batch: int | None = None,
) -> int:
    """Replace all rows of these videos by new ones, in one commit; returns the bytes of the files written.

    `rows` is called again when another writer was faster. Readers see all of it or nothing; `batch` is the number of
    what is written to all three tables together.
    """
    return commit(store, name, rows, predicate=any_of(video_ids), schema=schema, turn=turn, batch=batch)


def commit(
    store: Store,
    name: str,
    rows: Callable[[], Iterator[pa.Table]],
    *,
    predicate: str,
    schema: pa.Schema,
    turn: int,
    batch: int | None = None,
    pinned: DeltaTable | None = None,
) -> int:
    """Overwrite what the predicate matches; with `pinned`, fail rather than overwrite what was written since.

    delta-rs gives up where the answer to a commit is lost; whether it came through is looked at before the next try.
    """
    this = new_commit()
    held: frozenset[str] = frozenset()
    base: int | None = None

    def write() -> DeltaTable:
        nonlocal held, base
        newest = pinned if pinned and base is None else create_table(store, name)
        if base is not None and holds_commit(store, name, range(base + 1, newest.version() + 1), this):
            return newest
        refuse_if_superseded(turn_of(newest), turn, store)
        table = pinned or newest
        held, base = frozenset(_files(table)), table.version()
        before = None if batch is None else before_of(table) if batch_of(table) == batch else base
        target = merged_schema(schema_of(table), schema)
        write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(target, _batches(rows(), target)),
            mode="overwrite",
            predicate=predicate,
            schema_mode="merge" if len(target) > len(table.schema().fields) else None,
            target_file_size=TARGET_FILE_BYTES,
            writer_properties=writer_properties(),
            commit_properties=marks(turn, commit=this, batch=batch, before=before),
            post_commithook_properties=HOOKS,
        )
        return open_table(store, name) or table

    after = _committed(store, name, write, tries=1 if pinned else COMMIT_TRIES)
    return sum(size for path, size in _files(after).items() if path not in held)


def fence(store: Store, turn: int) -> None:
    """Leave the turn in every table: who had an earlier one, and was thought dead, can write nothing from then on."""
    for name in TABLES:
        leave(store, name, turn)


def leave(store: Store, name: str, turn: int, *, batch: int | None = None) -> None:
    """Commit these numbers to a table, where it is there and does not know them, and nothing else."""

    def write() -> None:
        table = open_table(store, name)
        if table is None or (turn_of(table) == turn and batch in (None, batch_of(table))):
            return
        refuse_if_superseded(turn_of(table), turn, store)
        table.create_write_transaction(
            [],
            "append",
            table.schema(),
            commit_properties=marks(turn, batch=batch),
            post_commithook_properties=HOOKS,
        )

    _committed(store, name, write)


def _committed(store: Store, name: str, write: Callable[[], T], *, tries: int = COMMIT_TRIES) -> T:
    for tried in range(1, tries + 1):
        try:
            return store.attempt(write, "write the table", name, passes=(CommitFailedError,))
        except CommitFailedError as error:
            if tried == tries:
                raise StorageError(f"cannot commit to the table {store}/{name}: {redact(str(error))}") from None
            log.warning("another writer was faster in the table %s; trying again", name)
            time.sleep(random.uniform(0, 0.2 * 2**tried))
    raise AssertionError("unreachable")


def schema_of(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def dataset(store: Store, name: str) -> ds.Dataset | None:
    """A table as it is now; None before publication."""
    table = open_table(store, name)
    return None if table is None else as_dataset(store, name, table)


def as_dataset(store: Store, name: str, table: DeltaTable) -> ds.Dataset:
    """An open table as an Arrow dataset that skips the files and row groups a filter excludes."""
    root = store.arrow_filesystem()
    return table.to_pyarrow_dataset(filesystem=root and pa.fs.SubTreeFileSystem(name, root))


def published_keys(store: Store) -> pa.Table:
    """video_id and label_key of every published video."""
    columns = ["video_id", "label_key"]
    if (videos := dataset(store, "videos")) is None:
        return pa.schema([(name, pa.string()) for name in columns]).empty_table()
    return store.attempt(lambda: videos.to_table(columns=columns), "read the table", "videos")


def newest_turn(store: Store) -> int:
    """The highest turn that any table knows, so that the next one is higher even where the turns' files are gone."""
    return max((turn_of(table) for name in TABLES if (table := open_table(store, name))), default=0)


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
    """Batches of a row group's size each, so that what is sorted stays so."""
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


def _check_ours(table: DeltaTable, where: str) -> None:
    """Refuse a table that no release of ours created, or a newer one did."""
    properties = table.metadata().configuration
    earlier = properties.get("delta.dataSkippingStatsColumns") == _CONFIGURATION["delta.dataSkippingStatsColumns"]
    if FORMAT_PROPERTY not in properties and not earlier:
        raise UsageError(f"{where} is a Delta table that sam2-corpus did not make; choose another output")
    check_format(properties.get(FORMAT_PROPERTY), what=where)


def _files(table: DeltaTable) -> dict[str, int]:
    added = pa.table(table.get_add_actions())
    return dict(zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), strict=True))


def _location(store: Store, name: str) -> str:
    if not store.is_local:
        return store.uri_of(name)
    if re.search(r"%[0-9A-Fa-f]{2}", store.uri):
        raise StorageError(f"cannot keep tables in {store}: delta-rs decodes '%' in paths; choose one without")
    return Path(store.uri_of(name)).as_uri()
