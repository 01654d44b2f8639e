"""Keeping the tables fast and small: sorted files of a good size, no forgotten versions, no parts nobody needs."""

import bisect
import dataclasses
import itertools
import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

from pipeline.publish.intents import read_intents
from pipeline.publish.tables import (
    TABLES,
    TARGET_FILE_BYTES,
    any_of,
    commit,
    dataset,
    newest_turn,
    open_table,
    schema_of,
    text_literal,
    turn_properties,
)  # fmt: skip
from pipeline.publish.turn import WAIT_S, take_turn
from pipeline.publish.wanted import wanted_keys
from pipeline.store import Store, parse_path

log = logging.getLogger(__name__)

SORT_ROWS = 131_072
"""Rows sorted at once, of one or more videos: bounds memory."""
FILES_AT_ONCE = 256
TIDY_OVERLAP = 4
"""Row groups of a file that may hold the same video before the file is rewritten; delta-rs may reorder a few."""
DEFAULT_RETENTION_HOURS = 168.0
_LAST = chr(0x10FFFF)
"""Comes after every video id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What was done to one table."""

    table: str
    files_before: int
    files_after: int
    bytes_rewritten: int
    bytes_left: int = 0
    """Of files that are worth a rewrite, but beyond the limit that was given."""


@dataclasses.dataclass(frozen=True)
class _File:
    path: str
    size: int
    low: str
    high: str | None
    """None: not known, so that anything may be in it."""


def fragments(store: Store, *, target_bytes: int = TARGET_FILE_BYTES) -> int:
    """Files of the masks table that a lookup of one video may have to open, or that are small, whichever are more.

    Each replacement adds one or two. Only the table's log is read.
    """
    if (table := open_table(store, "masks")) is None:
        return 0
    files = _files(table)
    small = sum(file.size < target_bytes // 2 for file in files)
    return max(small, overlap([(file.low, file.high or _LAST) for file in files]))


def optimize(
    store: Store,
    *,
    target_bytes: int = TARGET_FILE_BYTES,
    most_bytes: float = math.inf,
    wait_s: float = WAIT_S,
) -> list[Upkeep]:
    """Rewrite what is disordered, overlapping or small into sorted files near `target_bytes`; leave the rest alone.

    A lookup of one video then reads one file (two where it lies at an end), and of it one row group or a few.
    Files that overlap are rewritten together or, where they hold more than is left of `most_bytes`, not at all.
    """
    done, budget = [], most_bytes
    with take_turn(store, above=newest_turn(store), wait_s=wait_s) as turn:
        for name in TABLES:
            if (table := open_table(store, name)) is None:
                continue
            before, written, left = len(_files(table)), 0, 0
            for stretch in _stretches(store, name, _files(table), target_bytes):
                size = sum(file.size for file in stretch)
                if size > budget:
                    left += size
                    continue
                budget -= size
                low, high = min(file.low for file in stretch), _highest(stretch)
                table, rows = open_table(store, name), dataset(store, name)  # delta-rs cannot open one while it writes
                assert table is not None
                assert rows is not None
                written += commit(
                    store,
                    name,
                    partial(_sorted_rows, rows, low, high),
                    predicate=_between(low, high),
                    schema=schema_of(table),
                    turn=turn,
                    pinned=table,
                )
            after = open_table(store, name)
            assert after is not None
            files = len(_files(after))
            done.append(
                Upkeep(table=name, files_before=before, files_after=files, bytes_rewritten=written, bytes_left=left)
            )
    return done


def vacuum(store: Store, *, retention_hours: float = DEFAULT_RETENTION_HOURS, wait_s: float = WAIT_S) -> int:
    """Delete files that no version of the last `retention_hours` needs; returns how many.

    Queries that began earlier and time travel further back fail afterwards.
    """
    removed = 0
    with take_turn(store, above=newest_turn(store), wait_s=wait_s):
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                sweep = partial(
                    table.vacuum, int(retention_hours), dry_run=False, enforce_retention_duration=False, full=True
                )
                removed += len(store.attempt(sweep, "vacuum the table", name))
                store.attempt(table.cleanup_metadata, "vacuum the table", name)
    return removed


def expire_parts(store: Store, *, older_than_s: float, now: float, wait_s: float = WAIT_S) -> int:
    """Delete parts that were published, or that nobody wants any more, longer ago than this; returns how many.

    Going back to earlier parameters then computes again what has expired.
    """
    cutoff = now - older_than_s
    with take_turn(store, above=newest_turn(store), wait_s=wait_s):
        published = _publication_times(store)
        wanted_table = wanted_keys(store)
        wanted = dict(zip(wanted_table["video_id"].to_pylist(), wanted_table["label_key"].to_pylist(), strict=True))
        unsettled = {video_id for intent in read_intents(store).values() for video_id in intent}
        doomed = []
        for shard in store.list_sharded("parts"):
            for entry in shard:
                if not (pair := parse_path(entry.path)) or entry.mtime >= cutoff or pair[0] in unsettled:
                    continue
                since = published.get(pair)
                superseded = since is None and wanted.get(pair[0], pair[1]) != pair[1]
                if superseded or (since is not None and since < cutoff):
                    doomed.append(entry.path)
        store.delete_many(doomed)
    return len(doomed)


def delete_videos(store: Store, video_ids: Sequence[str], *, wait_s: float = WAIT_S) -> int:
    """Delete these videos' rows from all tables; returns how many mask rows. Old versions keep them until `vacuum`."""
    if not video_ids:
        return 0
    those = any_of(video_ids)
    rows = 0
    if (masks := dataset(store, "masks")) is not None:
        count = partial(masks.count_rows, filter=pc.field("video_id").isin(video_ids))
        rows = store.attempt(count, "read the table", "masks")
    with take_turn(store, above=newest_turn(store), wait_s=wait_s) as turn:
        for name in TABLES:
            if open_table(store, name) is not None:
                store.attempt(partial(_delete, store, name, those, turn), "delete from the table", name)
    return rows


def _delete(store: Store, name: str, predicate: str, turn: int) -> None:
    table = open_table(store, name)
    assert table is not None
    table.delete(predicate, commit_properties=turn_properties(turn))


def _stretches(store: Store, name: str, files: list[_File], target_bytes: int) -> list[list[_File]]:
    """The files that are worth a rewrite together. No other file reaches into their range of video ids."""
    groups: list[list[_File]] = []
    top: str | None = ""
    for file in sorted(files, key=lambda each: each.low):
        if groups and (top is None or file.low <= top):
            groups[-1].append(file)
        else:
            groups.append([file])
            top = ""
        top = None if top is None or file.high is None else max(top, file.high)
    stretches: list[list[_File]] = []
    joined = False
    for group in groups:
        fine = len(group) == 1 and _is_tidy(store, name, group[0])
        small = fine and group[0].size < target_bytes // 2
        if fine and not small:
            joined = False
        elif joined:
            stretches[-1].extend(group)
        else:
            stretches.append(list(group))
            joined = True
    return [stretch for stretch in stretches if len(stretch) > 1 or not _is_tidy(store, name, stretch[0])]


def _highest(files: list[_File]) -> str | None:
    highs = [file.high for file in files if file.high is not None]
    return max(highs) if len(highs) == len(files) else None


def _is_tidy(store: Store, name: str, file: _File) -> bool:
    """Whether a lookup of one video reads only a few of the file's row groups."""
    with store.open(f"{name}/{file.path}") as opened, pq.ParquetFile(opened) as parquet:
        metadata = parquet.metadata
        bounds = [metadata.row_group(at).column(0).statistics for at in range(metadata.num_row_groups)]
    if any(bound is None or not bound.has_min_max for bound in bounds):
        return False
    return overlap([(bound.min, bound.max) for bound in bounds]) <= TIDY_OVERLAP


def overlap(ranges: Sequence[tuple[str, str]]) -> int:
    """The greatest number of ranges that hold one value; ranges that only touch do not overlap."""
    events = sorted(
        [(low, 1) for low, high in ranges if low < high] + [(high, -1) for low, high in ranges if low < high]
    )
    return max(itertools.accumulate(step for _, step in events), default=1)


def _sorted_rows(rows: ds.Dataset, low: str, high: str | None) -> Iterator[pa.Table]:
    """All rows in the range by video, object and frame, a bounded number at a time.

    Rows are first dealt to local files by stretches of ids, 33 million rows in each pass over the range; then each file
    is sorted by itself.
    """
    column = pc.field("video_id")
    within = (column >= low) if high is None else (column >= low) & (column <= high)
    order = [(key, "ascending") for key in ("video_id", "object_id", "frame_index") if key in rows.schema.names]
    starts, last = _starts(_counts(rows, within))
    for at in range(0, len(starts), FILES_AT_ONCE):
        some, after = starts[at : at + FILES_AT_ONCE], starts[at + FILES_AT_ONCE : at + FILES_AT_ONCE + 1]
        mine = (column >= some[0]) & ((column < after[0]) if after else (column <= last))
        with tempfile.TemporaryDirectory(prefix="sam2-corpus-sort-") as folder:
            for path in _dealt(rows, mine, some, Path(folder)):
                yield from _sorted_file(path, order)
                path.unlink()


def _starts(counts: pa.Table) -> tuple[list[str], str]:
    """The first ids of stretches of at most SORT_ROWS rows, or of one video, and the last id of all."""
    starts: list[str] = []
    ids, waiting = counts["video_id"].to_pylist(), 0
    for video_id, count in zip(ids, counts["rows"].to_pylist(), strict=True):
        if not starts or waiting + count > SORT_ROWS:
            starts.append(video_id)
            waiting = 0
        waiting += count
    return starts, ids[-1] if ids else ""


def _dealt(rows: ds.Dataset, which: ds.Expression, starts: list[str], folder: Path) -> list[Path]:
    """Deal rows to one file for each of the stretches that begin at `starts`; all of them exist, in that order."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    paths = [folder / f"{at}.arrow" for at in range(len(starts))]
    with ExitStack() as files:
        writers = [files.enter_context(pa.ipc.new_stream(str(path), rows.schema, options=options)) for path in paths]
        for batch in _scanner(rows, which).to_batches():
            names = batch.column("video_id").dictionary_encode()
            stretch_of = np.array([bisect.bisect_right(starts, name) - 1 for name in names.dictionary.to_pylist()])
            stretches = stretch_of[names.indices.to_numpy(zero_copy_only=False)] if batch.num_rows else stretch_of
            for at in np.unique(stretches):
                writers[at].write_batch(batch.take(pa.array(np.flatnonzero(stretches == at))))
    return paths


def _sorted_file(path: Path, order: list[tuple[str, str]]) -> Iterator[pa.Table]:
    """A file's rows sorted; of one long video object by object."""
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_stream(file)
        total, objects = 0, set()
        for batch in reader:
            total += batch.num_rows
            if "object_id" in batch.schema.names:
                objects.update(batch.column("object_id").unique().to_pylist())
    parts = sorted(objects) if total > SORT_ROWS and len(objects) > 1 else [None]
    for object_id in parts:
        with pa.OSFile(str(path)) as file:
            held = [
                batch if object_id is None else batch.filter(pc.equal(batch.column("object_id"), object_id))
                for batch in pa.ipc.open_stream(file)
            ]
        yield pa.Table.from_batches(held).sort_by(order)


def _counts(rows: ds.Dataset, within: ds.Expression) -> pa.Table:
    """Rows per video, by video id."""
    tables = [
        pa.Table.from_batches([batch]).group_by("video_id").aggregate([([], "count_all")])
        for batch in _scanner(rows, within, ["video_id"]).to_batches()
        if batch.num_rows
    ]
    if not tables:
        return pa.table({"video_id": pa.array([], pa.string()), "rows": pa.array([], pa.int64())})
    counted = pa.concat_tables(tables).group_by("video_id").aggregate([("count_all", "sum")])
    return pa.table({"video_id": counted["video_id"], "rows": counted["count_all_sum"]}).sort_by("video_id")


def _scanner(rows: ds.Dataset, which: ds.Expression, columns: list[str] | None = None) -> ds.Scanner:
    return rows.scanner(
        columns=columns,
        filter=which,
        batch_size=32_768,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
        fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=False),  # it would hold whole files
    )


def _between(low: str, high: str | None) -> str:
    return f"video_id >= {text_literal(low)}" + (f" AND video_id <= {text_literal(high)}" if high is not None else "")


def _files(table: DeltaTable) -> list[_File]:
    added = pa.table(table.get_add_actions(flatten=True))
    names = added.schema.names
    none = [None] * added.num_rows
    lows = added["min.video_id"].to_pylist() if "min.video_id" in names else none
    highs = added["max.video_id"].to_pylist() if "max.video_id" in names else none
    rows = zip(added["path"].to_pylist(), added["size_bytes"].to_pylist(), lows, highs, strict=True)
    return [_File(path, size, low or "", high) for path, size, low, high in rows]


def _publication_times(store: Store) -> dict[tuple[str, str], float]:
    if (videos := dataset(store, "videos")) is None:
        return {}
    rows = videos.to_table(columns=["video_id", "label_key", "published_at"])
    seconds = pc.divide(pc.cast(rows["published_at"], pa.int64()).cast(pa.float64()), 1e6).to_pylist()
    pairs = zip(rows["video_id"].to_pylist(), rows["label_key"].to_pylist(), strict=True)
    return {pair: second for pair, second in zip(pairs, seconds, strict=True) if second is not None}
