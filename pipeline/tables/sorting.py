"""External sort of a table's rows by video, object and frame.

DuckDB's ORDER BY with a spill folder is as fast on ordinary masks, but needs more memory (635 against 390 MiB for four
million rows), and on masks of 17 kB a row it fails with an out-of-memory error at a limit of 1 GB.
"""

import bisect
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

SORT_ROWS = 131_072
"""Rows sorted in memory at once, of one or more videos."""
FILES_AT_ONCE = 256


def sorted_rows(rows: ds.Dataset, low: str, high: str | None) -> Iterator[pa.Table]:
    """All rows with ids from `low` to `high` (None: no limit), sorted, in tables of bounded size.

    Rows are first distributed to local files by ranges of ids, 33 million rows per pass; then each file is sorted.
    """
    column = pc.field("video_id")
    within = (column >= low) if high is None else (column >= low) & (column <= high)
    order = [(key, "ascending") for key in ("video_id", "object_id", "frame_index") if key in rows.schema.names]
    starts, last = _starts(_counts(rows, within))
    for at in range(0, len(starts), FILES_AT_ONCE):
        some, after = starts[at : at + FILES_AT_ONCE], starts[at + FILES_AT_ONCE : at + FILES_AT_ONCE + 1]
        mine = (column >= some[0]) & ((column < after[0]) if after else (column <= last))
        with tempfile.TemporaryDirectory(prefix="sam2-corpus-sort-") as folder:
            for path in _distributed(rows, mine, some, Path(folder)):
                yield from _sorted_file(path, order)
                path.unlink()


def _starts(counts: pa.Table) -> tuple[list[str], str]:
    """The first ids of row_ranges of at most SORT_ROWS rows, or of one video, and the last id of all."""
    starts: list[str] = []
    ids, waiting = counts["video_id"].to_pylist(), 0
    for video_id, count in zip(ids, counts["rows"].to_pylist(), strict=True):
        if not starts or waiting + count > SORT_ROWS:
            starts.append(video_id)
            waiting = 0
        waiting += count
    return starts, ids[-1] if ids else ""


def _distributed(rows: ds.Dataset, which: ds.Expression, starts: list[str], folder: Path) -> list[Path]:
    """Write rows to one file for each of the row_ranges that begin at `starts`; all files exist, in that order."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    paths = [folder / f"{at}.arrow" for at in range(len(starts))]
    with ExitStack() as files:
        writers = [files.enter_context(pa.ipc.new_stream(str(path), rows.schema, options=options)) for path in paths]
        for batch in _scanner(rows, which).to_batches():
            names = batch.column("video_id").dictionary_encode()
            ranges = np.array([bisect.bisect_right(starts, name) - 1 for name in names.dictionary.to_pylist()])
            row_ranges = ranges[names.indices.to_numpy(zero_copy_only=False)] if batch.num_rows else ranges
            for at in np.unique(row_ranges):
                writers[at].write_batch(batch.take(pa.array(np.flatnonzero(row_ranges == at))))
    return paths


def _sorted_file(path: Path, order: list[tuple[str, str]]) -> Iterator[pa.Table]:
    """A file's rows sorted; those of one long video object by object."""
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
