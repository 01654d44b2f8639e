"""The three Delta tables: created, opened, and read."""

import re
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipeline.errors import StorageError, UsageError
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.labels.columns import with_comments
from pipeline.storage import Store
from pipeline.storage.format_version import FORMAT, check_format
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, VIDEOS_TABLE

TABLES = {MASKS_TABLE: MASKS, MASKLETS_TABLE: MASKLETS, VIDEOS_TABLE: VIDEOS}
"""In the order of writing: a video is published once videos has it, so videos is last."""
FORMAT_PROPERTY = "sam2-corpus.format"
"""The table property that states the format version; absent in tables that release 0.1.0 created."""
HOOKS = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
"""delta-rs' own clean-up deletes foreign files in subfolders of the log; see `vacuum`."""
_CONFIGURATION = {
    FORMAT_PROPERTY: str(FORMAT),
    # no statistics of long strings, counts and parameters, which no filter can use
    "delta.dataSkippingStatsColumns": "video_id,label_key",
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


def open_table(store: Store, name: str, *, version: int | None = None) -> DeltaTable | None:
    """A table at its newest or a given version; None before the first publication, or if the version was deleted.

    Raises:
        UsageError: It is a foreign Delta table, or one of a newer release.
    """
    options, where = store.deltalake_options() or None, _location(store, name)
    missing = TableNotFoundError if version is None else DeltaError
    try:
        opened = partial(DeltaTable, where, version=version, storage_options=options)
        table = store.with_retries(opened, "open the table", name, passes=(missing,))
    except missing:
        return None
    _check_ours(table, f"{store}/{name}")
    return table


def create_table(store: Store, name: str) -> DeltaTable:
    """The table, created with its schema if it does not exist."""
    if (found := open_table(store, name)) is not None:
        return found
    options, where = store.deltalake_options() or None, _location(store, name)

    def create() -> DeltaTable:
        DeltaTable.create(
            where,
            with_comments(name, TABLES[name]),
            mode="ignore",
            configuration=_CONFIGURATION,
            storage_options=options,
            post_commithook_properties=HOOKS,
            raise_if_key_not_exists=False,
        )
        return DeltaTable(where, storage_options=options)

    return store.with_retries(create, "create the table", name)


def schema_of(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def dataset(store: Store, name: str) -> ds.Dataset | None:
    """A table at its newest version; None before publication."""
    table = open_table(store, name)
    return None if table is None else as_dataset(store, name, table)


def as_dataset(store: Store, name: str, table: DeltaTable) -> ds.Dataset:
    """An open table as an Arrow dataset that skips the files and row groups a filter excludes."""
    root = store.arrow_filesystem()
    return table.to_pyarrow_dataset(filesystem=root and pa.fs.SubTreeFileSystem(name, root))


def published_keys(store: Store) -> pa.Table:
    """video_id, label_key and run_id of every published video."""
    columns = ["video_id", "label_key", "run_id"]
    if (videos := dataset(store, "videos")) is None:
        return pa.schema([(name, pa.string()) for name in columns]).empty_table()
    return store.with_retries(lambda: videos.to_table(columns=columns), "read the table", "videos")


def _check_ours(table: DeltaTable, where: str) -> None:
    """Raise for a table that this project did not create, or that a newer release did."""
    properties = table.metadata().configuration
    earlier = properties.get("delta.dataSkippingStatsColumns") == _CONFIGURATION["delta.dataSkippingStatsColumns"]
    if FORMAT_PROPERTY not in properties and not earlier:
        raise UsageError(f"{where} is a Delta table that sam2-corpus did not make; choose another output")
    check_format(properties.get(FORMAT_PROPERTY), what=where)


def _location(store: Store, name: str) -> str:
    if not store.is_local:
        return store.uri_of(name)
    if re.search(r"%[0-9A-Fa-f]{2}", store.uri):
        raise StorageError(f"cannot keep tables in {store}: delta-rs decodes '%' in paths; choose a path without '%'")
    return Path(store.uri_of(name)).as_uri()
