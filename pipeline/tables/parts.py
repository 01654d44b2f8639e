"""Reads committed parts in bulk: footers first, then mask rows as a stream with few parts in memory."""

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StorageError
from pipeline.labels import PartHeader, read_part_header
from pipeline.storage import Store, part_path
from pipeline.storage.parquet import read_parquet

FOOTER_GUESS_BYTES = 32 * 2**10
THREADS = 4
WHOLE_ROWS = 100_000
"""Parts of more rows are read row group by row group instead of whole."""
ROWS_AHEAD = 300_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundPart:
    """A committed part and its footer."""

    video_id: str
    label_key: str
    header: PartHeader


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnreadablePart:
    """A part that is damaged, or that could not be read."""

    video_id: str
    label_key: str
    reason: str

    def __str__(self) -> str:
        return f"{part_path(self.video_id, self.label_key)}: {self.reason}"


def find_part(store: Store, video_id: str, label_key: str) -> FoundPart | UnreadablePart:
    """Read a part's footer and check that it is the part of this video and key; it is damaged if not.

    Raises:
        MissingError: It does not exist.
        StorageError: The storage refused to read it; the part may be sound.
        NewerFormatError: A newer release wrote it.
    """
    path = part_path(video_id, label_key)
    try:
        tail = store.read_tail(path, FOOTER_GUESS_BYTES)
        header = read_part_header(tail)
        if isinstance(header, int):
            header = read_part_header(store.read_tail(path, header))
        if isinstance(header, int):
            raise ValueError("its footer claims to be longer than the file")
        names = (header.video["video_id"][0].as_py(), header.video["label_key"][0].as_py())
        if names != (video_id, label_key):
            raise ValueError(f"it holds the labels of {names[0]!r} with key {names[1]}")
    except (ValueError, KeyError, IndexError, OSError) as error:  # pa.ArrowInvalid is a ValueError
        return UnreadablePart(video_id=video_id, label_key=label_key, reason=f"damaged: {error}")
    return FoundPart(video_id=video_id, label_key=label_key, header=header)


def find_part_or_reason(store: Store, pair: tuple[str, str]) -> FoundPart | UnreadablePart:
    """As `find_part`, for video_id and label_key; a part that is absent or refused is unreadable for that reason."""
    try:
        return find_part(store, *pair)
    except StorageError as error:
        return UnreadablePart(video_id=pair[0], label_key=pair[1], reason=str(error))


class MaskStream:
    """The mask rows of parts, in the order of the parts. An unreadable part ends the stream and is then in `broken`."""

    def __init__(self, store: Store, parts: Sequence[FoundPart]) -> None:
        self._store = store
        self._parts = parts
        self.broken: UnreadablePart | None = None

    def __call__(self) -> Iterator[pa.Table]:
        with ThreadPoolExecutor(THREADS) as threads:
            waiting: deque[tuple[FoundPart, Future[pa.Table] | None]] = deque()
            rows = 0
            for part in self._parts:
                small = part.header.rows <= WHOLE_ROWS
                waiting.append((part, threads.submit(self._whole, part) if small else None))
                rows += part.header.rows
                while waiting and (rows > ROWS_AHEAD or len(waiting) > 2 * THREADS):
                    done, future = waiting.popleft()
                    rows -= done.header.rows
                    yield from self._rows(done, future)
            for done, future in waiting:
                yield from self._rows(done, future)

    def _rows(self, part: FoundPart, future: "Future[pa.Table] | None") -> Iterator[pa.Table]:
        try:
            if future is not None:
                yield future.result()
                return
            with self._store.open(part_path(part.video_id, part.label_key)) as file, pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(16_384):
                    yield pa.Table.from_batches([batch])
        except (StorageError, ValueError, OSError) as error:
            self.broken = UnreadablePart(
                video_id=part.video_id,
                label_key=part.label_key,
                reason=str(error) if isinstance(error, StorageError) else f"its mask rows are damaged: {error}",
            )
            raise

    def _whole(self, part: FoundPart) -> pa.Table:
        return read_parquet(self._store.read(part_path(part.video_id, part.label_key)))
