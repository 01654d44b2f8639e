"""Digests of the detections of many videos, in one pass over their tables; memory grows with videos alone."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.sources.reading import Reading, Size, Videos
from pipeline.detection.sources.source import Source
from pipeline.detection.table import GIVEN, digest_of_sum, row_digests
from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import BadRow
from pipeline.storage import Storage

READERS = 16
"""Tables that are read at the same time, where videos have tables of their own."""
KEPT = 1000
"""Bad rows of a table that are kept."""


@dataclass(kw_only=True)
class TableDigests:
    """The digests of the videos in one table."""

    uri: str
    """Of the table; that inside of a folder."""
    digests: pa.Array
    """Per video; null for a video that the table has no row of."""
    rows: int = 0
    others: int = 0
    """Rows of videos that were not asked for."""
    bad: int = 0
    """Rows that break a rule; they are left out of the digests."""
    bad_rows: list[BadRow] = field(default_factory=list)
    """The first of them."""
    unsorted: bool = False
    """Whether it is a Parquet table of which a worker reads most row groups for one video."""
    categories: set[str] = field(default_factory=set)
    """Those of the videos that were asked for."""
    classes: set[str] = field(default_factory=set)
    """All names of classes that --map may replace."""
    notes: list[str] = field(default_factory=list)
    adapted: pa.Table | None = None
    """The detections of the videos in GIVEN, where workers cannot read the files themselves."""


def table_digests(
    uri: str,
    ids: pa.Array,
    *,
    reading: Reading | None = None,
    storage: Storage | None = None,
    size_of: Callable[[str], Size | None] = lambda _: None,
) -> TableDigests:
    """The digests of the detections of videos in one table, or in other files of a detector or tracker.

    Args:
        uri: see `Source`.
        ids: the videos.
        reading: what the files do not say themselves.
        storage: endpoints and credentials.
        size_of: the size of a video's frames.

    Raises:
        ManifestError: The table cannot be read, or lacks a column.
    """
    source = Source(uri, reading, storage=storage, videos=Videos(ids=frozenset(ids.to_pylist()), size_of=size_of))
    adapted: list[pa.RecordBatch] | None = None if source.streams else []
    counts, sums = np.zeros(len(ids), np.int64), np.zeros((len(ids), 4), np.uint64)
    found = TableDigests(uri=source.uri, digests=pa.nulls(0, pa.string()))
    for batch, bad in source.batches():
        found.bad += len(bad)
        found.bad_rows += bad[: KEPT - len(found.bad_rows)]
        found.rows += len(batch) + len(bad)
        video = pc.index_in(batch["video_id"], value_set=ids).fill_null(-1).to_numpy(zero_copy_only=False)
        known = video >= 0
        found.others += int((~known).sum())
        if known.any():
            ours = batch.filter(pa.array(known))
            _add(counts, sums, video[known], row_digests(ours))
            if adapted is not None:
                adapted.append(ours)
            found.categories.update(pc.unique(ours["category"]).drop_null().to_pylist())
    found.unsorted = adapted is None and not source.is_sorted
    digests = [digest_of_sum(int(n), total) if n else None for n, total in zip(counts, sums, strict=True)]
    found.digests = pa.array(digests, pa.string())
    found.classes, found.notes = source.categories.seen, source.notes
    found.adapted = None if adapted is None else pa.Table.from_batches(adapted, schema=GIVEN)
    return found


def digests_by_table(
    uris: pa.ChunkedArray, ids: pa.ChunkedArray, digests: Callable[[str, pa.Array], TableDigests]
) -> Iterator[tuple[str, npt.NDArray[np.int64], TableDigests | ManifestError]]:
    """Per table: its URI, the rows of a manifest that name it, and the digests of their videos, or why there are none.

    Args:
        uris: for each row of the manifest the table of its detections, or null.
        ids: its video.
        digests: reads the digests of videos from a table.
    """
    tables = pc.unique(uris).drop_null()
    code = pc.index_in(uris, value_set=tables).fill_null(-1).to_numpy()
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(tables) + 1))
    rows = [order[start:stop] for start, stop in itertools.pairwise(starts)]

    def read(uri: str, videos: pa.Array) -> TableDigests | ManifestError:
        try:
            return digests(uri, videos)
        except ManifestError as error:
            return error

    with ThreadPoolExecutor(min(READERS, max(1, len(tables)))) as pool:
        names = tables.to_pylist()
        videos = (ids.take(pa.array(some)).combine_chunks() for some in rows)
        yield from zip(names, rows, pool.map(read, names, videos), strict=True)


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
