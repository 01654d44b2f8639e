"""Deletes data files and log entries that no recent version of a table needs, but no foreign files.

delta-rs' own vacuum deletes every file below a table's folder that its log does not name, and its clean-up of the log
includes subfolders: both would delete foreign files.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.storage import Entry, MissingError, Store
from pipeline.storage.ownership import is_data_file, is_unfinished_write, log_version
from pipeline.storage.paths import table_log_dir
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.epoch import WAIT_S, publisher_epoch
from pipeline.tables.files import files_of
from pipeline.tables.snapshot import finalize_interrupted_batch

DEFAULT_RETENTION_HOURS = 168.0
LOG_RETENTION_S = 30 * 86_400.0
"""Age up to which versions can be read, if their data files still exist."""
READERS = 32


def vacuum(store: Store, *, retention_hours: float = DEFAULT_RETENTION_HOURS, wait_s: float = WAIT_S) -> int:
    """Delete data files that no version of the last `retention_hours` needs; returns how many.

    Older queries and time travel to older versions fail afterwards. Foreign files are kept.
    """
    removed = 0
    if not any(open_table(store, name) for name in TABLES):
        return removed
    with publisher_epoch(
        store, wait_s=wait_s
    ) as epoch:  # otherwise it would delete files that a paused publisher has yet to commit
        finalize_interrupted_batch(store, epoch)
        cutoff = time.time() - retention_hours * 3600
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                doomed = unneeded_files(store, name, table, cutoff)
                store.delete_many(doomed)
                removed += len(doomed)
                drop_old_log(store, name)
    return removed


def drop_old_log(store: Store, name: str) -> None:
    """Delete the entries of a table's log that are older than LOG_RETENTION_S and that no kept version needs."""
    store.delete_many(old_log_entries(list(store.list(table_log_dir(name))), cutoff=time.time() - LOG_RETENTION_S))


def old_log_entries(log: Sequence[Entry], *, cutoff: float) -> list[str]:
    """Entries and checkpoints before the last checkpoint that was written before the cutoff; younger ones need it."""
    versions = {entry.path: version for entry in log if (version := log_version(entry.path)) is not None}
    written = [versions.get(entry.path) for entry in log if ".checkpoint." in entry.path and entry.mtime < cutoff]
    oldest = max((version for version in written if version is not None), default=0)
    return [path for path, version in versions.items() if version < oldest]


def split_unneeded(
    listed: Sequence[Entry], *, needed: frozenset[str], removed: Mapping[str, float], cutoff: float
) -> tuple[list[str], list[str]]:
    """Files that may be deleted, and files that may be if they hold rows of ours.

    Args:
        listed: files below the table's folder, with paths from the output's root.
        needed: the data files of the table's newest version.
        removed: when the log says that a data file was removed from the table, in seconds since the epoch.
        cutoff: versions since then are kept.
    """
    ours, unknown = [], []
    for entry in listed:
        if entry.path in needed or removed.get(entry.path, entry.mtime) >= cutoff:
            continue
        if entry.path in removed or is_unfinished_write(entry.path):
            ours.append(entry.path)
        elif is_data_file(entry.path):
            unknown.append(entry.path)
    return ours, unknown


def unneeded_files(store: Store, name: str, table: DeltaTable, cutoff: float) -> list[str]:
    """Data files of a table, all of them ours, that no version since the cutoff needs."""
    removed = _removed_files(store, name)
    needed = frozenset(f"{name}/{file.path}" for file in files_of(table))
    doomed, unknown = split_unneeded(list(store.list(name)), needed=needed, removed=removed, cutoff=cutoff)
    with ThreadPoolExecutor(READERS) as threads:
        holds_ours = threads.map(partial(_holds_our_rows, store), unknown)
        return doomed + [path for path, ours in zip(unknown, holds_ours, strict=True) if ours]


def _removed_files(store: Store, name: str) -> dict[str, float]:
    """When each data file was removed from a table, if the table's log still has the entry."""
    commits = [entry.path for entry in store.list(table_log_dir(name)) if _is_commit(entry.path)]
    with ThreadPoolExecutor(READERS) as threads:
        lines = [line for data in threads.map(store.read_or_none, commits) for line in (data or b"").splitlines()]
    removals = (json.loads(line).get("remove") for line in lines if b'"remove"' in line)
    return {f"{name}/{found['path']}": found.get("deletionTimestamp", 0) / 1000 for found in removals if found}


def _is_commit(path: str) -> bool:
    return log_version(path) is not None and path.endswith(".json")


def _holds_our_rows(store: Store, path: str) -> bool:
    """Whether a file with the name of a data file has columns of our tables: the name alone is no proof."""
    try:
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            return {"video_id", "label_key"} <= set(parquet.schema_arrow.names)
    except (MissingError, ValueError, OSError):
        return False
