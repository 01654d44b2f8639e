"""Digests of the detections of many videos, in one pass over their tables; memory grows with videos alone."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.table import digest_of_sum, read_detections, row_digests
from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import BadRow
from pipeline.manifest.source import OpenFile, open_any

READERS = 16
"""Tables that are read at the same time, where videos have tables of their own."""
KEPT = 1000
"""Bad rows of a table that are kept."""


@dataclass(kw_only=True)
class TableDigests:
    """The digests of the videos in one table."""

    digests: pa.Array
    """Per video; null for a video that the table has no row of."""
    rows: int = 0
    others: int = 0
    """Rows of videos that were not asked for."""
    bad: int = 0
    """Rows that break a rule; they are left out of the digests."""
    bad_rows: list[BadRow] = field(default_factory=list)
    """The first of them."""
    categories: set[str] = field(default_factory=set)
    """Those of the videos that were asked for."""


def table_digests(uri: str, ids: pa.Array, *, open_file: OpenFile = open_any) -> TableDigests:
    """The digests of the detections of videos in one table.

    Raises:
        ManifestError: The table cannot be read, or lacks a column.
    """
    counts, sums = np.zeros(len(ids), np.int64), np.zeros((len(ids), 4), np.uint64)
    found = TableDigests(digests=pa.nulls(0, pa.string()))
    for batch, bad in read_detections(uri, open_file=open_file):
        found.bad += len(bad)
        found.bad_rows += bad[: KEPT - len(found.bad_rows)]
        found.rows += len(batch) + len(bad)
        video = pc.index_in(batch["video_id"], value_set=ids).fill_null(-1).to_numpy(zero_copy_only=False)
        known = video >= 0
        found.others += int((~known).sum())
        if known.any():
            ours = batch.filter(pa.array(known))
            _add(counts, sums, video[known], row_digests(ours))
            found.categories.update(pc.unique(ours["category"]).drop_null().to_pylist())
    digests = [digest_of_sum(int(n), total) if n else None for n, total in zip(counts, sums, strict=True)]
    found.digests = pa.array(digests, pa.string())
    return found


def digests_by_table(
    uris: pa.ChunkedArray, ids: pa.ChunkedArray, *, open_file: OpenFile = open_any
) -> Iterator[tuple[str, npt.NDArray[np.int64], TableDigests | ManifestError]]:
    """Per table: its URI, the rows of a manifest that name it, and the digests of their videos, or why there are none.

    Args:
        uris: for each row of the manifest the table of its detections, or null.
        ids: its video.
        open_file: opens a URI as a seekable binary file.
    """
    tables = pc.unique(uris).drop_null()
    code = pc.index_in(uris, value_set=tables).fill_null(-1).to_numpy()
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(tables) + 1))
    rows = [order[start:stop] for start, stop in itertools.pairwise(starts)]
    with ThreadPoolExecutor(min(READERS, max(1, len(tables)))) as pool:
        names = tables.to_pylist()
        videos = (ids.take(pa.array(some)).combine_chunks() for some in rows)
        yield from zip(names, rows, pool.map(partial(_try, open_file=open_file), names, videos), strict=True)


def _try(uri: str, ids: pa.Array, *, open_file: OpenFile) -> TableDigests | ManifestError:
    try:
        return table_digests(uri, ids, open_file=open_file)
    except ManifestError as error:
        return error


def _add(
    counts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.uint64],
    video: npt.NDArray[np.int64],
    words: npt.NDArray[np.uint64],
) -> None:
    order = np.argsort(video, kind="stable")
    video, words = video[order], words[order]
    begins = np.flatnonzero(np.append(True, video[1:] != video[:-1]))
    counts[video[begins]] += np.diff(np.append(begins, len(video)))
    sums[video[begins]] += np.add.reduceat(words, begins, axis=0)
