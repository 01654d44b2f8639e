"""A table's data files as its log lists them, and which of them to rewrite together."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.storage import Store
from pipeline.tables.commits import TARGET_FILE_BYTES
from pipeline.tables.delta import open_table

TIDY_OVERLAP = 4
"""Row groups of a file that may overlap in video ids before the file is rewritten; delta-rs may reorder a few."""
_LAST = chr(0x10FFFF)
"""Sorts after every video id."""


@dataclass(frozen=True)
class TableFile:
    path: str
    size: int
    low: str
    high: str | None
    """None where it is not known: the file may have any id from `low` on."""


def fragments(store: Store, *, target_bytes: int = TARGET_FILE_BYTES) -> int:
    """The largest number of masks files that a lookup of one video opens, or the number of small ones if greater.

    Each publication adds one or two. Reads only the table's log.
    """
    if (table := open_table(store, "masks")) is None:
        return 0
    files = files_of(table)
    small = sum(file.size < target_bytes // 2 for file in files)
    return max(small, overlap([(file.low, file.high or _LAST) for file in files]))


def rewrite_groups(store: Store, name: str, files: list[TableFile], target_bytes: int) -> list[list[TableFile]]:
    """Groups of files to rewrite together; no other file overlaps with the ids of a group."""
    groups: list[list[TableFile]] = []
    top: str | None = ""
    for file in sorted(files, key=lambda each: each.low):
        if groups and (top is None or file.low <= top):
            groups[-1].append(file)
        else:
            groups.append([file])
            top = ""
        top = None if top is None or file.high is None else max(top, file.high)
    found: list[list[TableFile]] = []
    joined = False
    for group in groups:
        fine = len(group) == 1 and _is_tidy(store, name, group[0])
        small = fine and group[0].size < target_bytes // 2
        if fine and not small:
            joined = False
        elif joined:
            found[-1].extend(group)
        else:
            found.append(list(group))
            joined = True
    return [group for group in found if len(group) > 1 or not _is_tidy(store, name, group[0])]


def highest(files: list[TableFile]) -> str | None:
    highs = [file.high for file in files if file.high is not None]
    return max(highs) if len(highs) == len(files) else None


def _is_tidy(store: Store, name: str, file: TableFile) -> bool:
    """Whether a lookup of one video reads only a few of the file's row groups."""
    with store.open(f"{name}/{file.path}") as opened, pq.ParquetFile(opened) as parquet:
        metadata = parquet.metadata
        bounds = [metadata.row_group(at).column(0).statistics for at in range(metadata.num_row_groups)]
    if any(bound is None or not bound.has_min_max for bound in bounds):
        return False
    return overlap([(bound.min, bound.max) for bound in bounds]) <= TIDY_OVERLAP


def overlap(ranges: Sequence[tuple[str, str]]) -> int:
    """The greatest number of ranges that contain one value; ranges that only touch do not overlap."""
    events = sorted(
        [(low, 1) for low, high in ranges if low < high] + [(high, -1) for low, high in ranges if low < high]
    )
    return max(itertools.accumulate(step for _, step in events), default=1)


def files_of(table: DeltaTable) -> list[TableFile]:
    added = pa.table(table.get_add_actions(flatten=True))
    names = added.schema.names
    none = [None] * added.num_rows
    lows = added["min.video_id"].to_pylist() if "min.video_id" in names else none
    highs = added["max.video_id"].to_pylist() if "max.video_id" in names else none
    rows = zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), lows, highs, strict=True)
    return [TableFile(path, size, low or "", high) for path, size, low, high in rows]
