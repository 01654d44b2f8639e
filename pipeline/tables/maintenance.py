"""Maintenance of tables: sorted files of a good size, deleted videos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow.compute as pc

from pipeline.storage import Store
from pipeline.tables.commits import TARGET_FILE_BYTES, newest_epoch, replace_videos, rewrite_rows, text_literal
from pipeline.tables.delta import TABLES, dataset, open_table, schema_of
from pipeline.tables.epoch import WAIT_S, hold_epoch, publisher_epoch
from pipeline.tables.files import TableFile, files_of, highest, rewrite_groups
from pipeline.tables.snapshot import next_batch
from pipeline.tables.sorting import sorted_rows
from pipeline.tables.vacuum import drop_old_log


@dataclass(frozen=True, kw_only=True)
class MaintenanceResult:
    """What `optimize` did to one table."""

    table: str
    files_before: int
    files_after: int
    bytes_read: int
    """Of the files that were rewritten."""
    bytes_rewritten: int
    """Of the new files."""
    bytes_left: int = 0
    """Of files that need a rewrite but exceed `max_bytes`."""


def optimize(
    store: Store, *, target_bytes: int = TARGET_FILE_BYTES, max_bytes: float = math.inf, wait_s: float = WAIT_S
) -> list[MaintenanceResult]:
    """Rewrite unsorted, overlapping or small files into sorted files of about `target_bytes`; keep the others.

    A lookup of one video then reads one file (two where the video is at a file's end), and in it one or a few row
    groups. Overlapping files are rewritten together, or not at all if they exceed the rest of `max_bytes`.

    Raises:
        UsageError: It is not an output, or a newer release made it.
        StorageError: A table cannot be read or written, or another publisher is running for too long.
    """
    done, budget = [], max_bytes
    with hold_epoch(store, above=newest_epoch(store), wait_s=wait_s) as epoch:
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                done.append(_optimize_table(store, name, files_of(table), target_bytes, budget, epoch))
                budget -= done[-1].bytes_read
                drop_old_log(store, name)
    return done


def _optimize_table(
    store: Store, name: str, files: list[TableFile], target_bytes: int, budget: float, epoch: int
) -> MaintenanceResult:
    read = written = left = 0
    for group in rewrite_groups(store, name, files, target_bytes):
        size = sum(file.size for file in group)
        if read + size > budget:
            left += size
            continue
        read += size
        written += _rewrite_group(store, name, group, epoch)
    after = open_table(store, name)
    assert after is not None
    return MaintenanceResult(
        table=name,
        files_before=len(files),
        files_after=len(files_of(after)),
        bytes_read=read,
        bytes_rewritten=written,
        bytes_left=left,
    )


def _rewrite_group(store: Store, name: str, group: list[TableFile], epoch: int) -> int:
    low, high = min(file.low for file in group), highest(group)
    table, rows = open_table(store, name), dataset(store, name)  # two objects: delta-rs locks the one it writes
    assert table is not None
    assert rows is not None
    sort = partial(sorted_rows, rows, low, high)
    return rewrite_rows(store, name, sort, predicate=_between(low, high), epoch=epoch, pinned=table)


def delete_videos(store: Store, video_ids: Sequence[str], *, wait_s: float = WAIT_S) -> int:
    """Delete these videos' rows from all tables; returns the number of mask rows.

    Earlier versions of the tables keep them until `vacuum`.
    """
    if not video_ids:
        return 0
    rows = 0
    if (masks := dataset(store, "masks")) is not None:
        count = partial(masks.count_rows, filter=pc.field("video_id").isin(video_ids))
        rows = store.with_retries(count, "read the table", "masks")
    with publisher_epoch(store, wait_s=wait_s) as epoch:
        batch = next_batch(store)
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                nothing = schema_of(table).empty_table()
                replace_videos(
                    store, name, video_ids, partial(iter, [nothing]), schema=nothing.schema, epoch=epoch, batch=batch
                )
    return rows


def _between(low: str, high: str | None) -> str:
    return f"video_id >= {text_literal(low)}" + (f" AND video_id <= {text_literal(high)}" if high is not None else "")
