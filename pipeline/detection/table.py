"""The detections table: its schema, the rules of its rows, the rows of one video, and their digest.

One row is one detection: video_id, frame_index or time_s, box or mask, and optionally category, score and the identity
that a tracker gave. A row with neither box nor mask says that the detector looked at this frame and saw nothing. Rows
may be in any order; Parquet tables sorted by video_id are read by row group, so that one video costs one or two row
groups whatever the table holds. Other tools' names of columns are known to `sources.columns`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.detection.rules import check_rows
from pipeline.detection.sources.classes import Categories
from pipeline.detection.sources.columns import OTHER_NAMES, SIDES, identities, rename_columns
from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import BadRow, clip
from pipeline.manifest.conform import Notes, conform, flags, nan_to_null
from pipeline.manifest.kinds import Box, Mask
from pipeline.manifest.source import OpenFile, naming_file, open_any, open_or_refuse
from pipeline.manifest.tables import table_batches

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        ("box", Box.type),
        ("mask", Mask.type),
        ("category", pa.string()),
        ("score", pa.float32()),
    ]
)
"""frame_index counts displayed frames of the labelled segment, time_s seconds after the file's first frame; where both
are given, frame_index is used. Boxes are in pixels of the displayed frame, masks are COCO RLE of it."""
GIVEN = pa.schema([*SCHEMA, ("track_id", pa.string()), ("fps", pa.float64())])
"""Columns that are read: those that jobs.detect writes, a tracker's identity, and the frame rate of the video."""
FLAT = (*Box.flat, *Mask.flat)
"""Columns that a table may have instead of box and mask."""
_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class VideoDetections:
    """The detections of one video."""

    table: pa.Table
    """GIVEN, by frame_index and time_s."""
    bad_rows: tuple[BadRow, ...] = ()
    """Rows that break a rule and are not in the table; numbered in the file."""

    @property
    def digest(self) -> str:
        return digest_of(self.table)


def read_video(uri: str, video_id: str, *, open_file: OpenFile = open_any) -> VideoDetections:
    """The detections of one video, from a table in Parquet (by its row groups' statistics), CSV or JSON lines.

    Raises:
        ManifestError: The table cannot be read, or lacks a column.
    """
    batches, bad = [], []
    with open_or_refuse(uri, open_file) as file, naming_file(uri):
        for first, raw in _batches_of_video(uri, file, video_id):
            batch, wrong = to_detections(raw, first_row=first)
            batches.append(batch.filter(pc.equal(batch["video_id"], video_id)))
            bad += [row for row in wrong if row.video_id == video_id]
    table = pa.Table.from_batches(batches, schema=GIVEN)
    by_moment = [("frame_index", "ascending"), ("time_s", "ascending")]
    return VideoDetections(table=table.sort_by(by_moment), bad_rows=tuple(bad))


def to_detections(
    raw: pa.RecordBatch, *, first_row: int = 0, categories: Categories | None = None
) -> tuple[pa.RecordBatch, list[BadRow]]:
    """Rows in GIVEN without those that break a rule, and these, numbered from `first_row`.

    Args:
        raw: columns of the detections table, under its names or those of other tools.
        first_row: number of the first row in its file.
        categories: names of classes that are numbers, and renamed categories.

    Raises:
        ManifestError: A column is missing, may be one of two, or has a type from which no value can be cast.
    """
    raw = rename_columns(raw, categories or Categories({}))
    check_columns(raw.schema)
    notes = Notes()
    columns = {name: raw.column(name) for name in raw.schema.names}
    arrays = []
    for field in GIVEN:
        kind = {"box": Box(), "mask": Mask()}.get(field.name)
        flat = {name: columns[name] for name in kind.flat if name in columns} if kind else {}
        if field.name == "track_id" and field.name in columns:
            arrays.append(identities(columns[field.name], notes, column=field.name))
        elif field.name in columns:
            arrays.append(conform(nan_to_null(columns[field.name]), field.type, column=field.name, notes=notes))
        elif kind and flat:
            arrays.append(kind.from_flat(flat, notes))
        else:
            arrays.append(pa.nulls(len(raw), field.type))
    batch = pa.record_batch(arrays, schema=GIVEN)
    found = check_rows(batch, notes, first_row=first_row)
    if not found.rows:
        return batch, []
    return batch.filter(pa.array(~found.bad)), sorted(found.rows, key=lambda bad: bad.row)


def check_columns(schema: pa.Schema) -> None:
    """Refuse a table that lacks a column; other columns than those of GIVEN are ignored.

    Raises:
        ManifestError: A column is missing.
    """
    names = schema.names
    if "video_id" not in names:
        raise ManifestError(f"column video_id is missing; the table has {clip(names)}")
    if "frame_index" not in names and "time_s" not in names:
        raise ManifestError(f"a column frame_index or time_s is missing; the table has {clip(names)}")
    if not {"box", "mask"} & set(names) and not set(SIDES) <= set(names) and not set(Mask.flat) <= set(names):
        raise ManifestError(
            f"detections need a column box or mask, or x_min, y_min, x_max and y_max; the table has {clip(names)}"
        )


def digest_of(detections: pa.Table | pa.RecordBatch) -> str:
    """SHA-256 (hex) of one video's detections, whatever their order and the columns that they were read from."""
    total = row_digests(detections).sum(axis=0, dtype=np.uint64) if len(detections) else np.zeros(4, np.uint64)
    return digest_of_sum(len(detections), total)


def row_digests(detections: pa.Table | pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """The SHA-256 of every row as four words (rows, 4). The digest of a video is made of their sum, see `digest_of`."""
    rows = len(detections)
    record = np.zeros((rows, 8), np.uint64)
    for at, (name, kind) in enumerate((("frame_index", np.int64), ("time_s", np.float64), ("score", np.float64))):
        column = _combined(detections, name)
        record[:, 0] |= flags(column.is_valid()).astype(np.uint64) << np.uint64(at)
        record[:, 1 + at] = (column.fill_null(0).to_numpy(zero_copy_only=False).astype(kind) + kind(0)).view(np.uint64)
    box, mask = _combined(detections, "box"), _combined(detections, "mask")
    record[:, 0] |= flags(box.is_valid()).astype(np.uint64) << np.uint64(3)
    sides = [side.fill_null(0).to_numpy(zero_copy_only=False) + np.float32(0) for side in box.flatten()]  # -0 is 0
    record[:, 4:6] = np.ascontiguousarray(np.stack(sides, axis=1)).view(np.uint64)
    record[:, 6] = _words_of_texts(pc.struct_field(mask, "counts"))
    record[:, 7] = _words_of_texts(_combined(detections, "category"))
    data = record.tobytes()
    digests = [hashlib.sha256(data[at : at + 64]).digest() for at in range(0, len(data), 64)]
    for row, track in _tracks(detections):
        digests[row] = hashlib.sha256(data[row * 64 : row * 64 + 64] + track).digest()
    return np.frombuffer(b"".join(digests), np.uint64).reshape(rows, 4)


def digest_of_sum(rows: int, total: npt.NDArray[np.uint64]) -> str:
    """The digest of so many rows whose `row_digests` have this sum (4,)."""
    return hashlib.sha256(b"%d:" % rows + total.astype(np.uint64).tobytes()).hexdigest()


def _words_of_texts(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """The first eight bytes of every text's SHA-256; 0 where it is null."""
    coded = texts.dictionary_encode()
    words = [int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "little") for t in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return np.array([*words, 0], np.uint64)[codes]


def _tracks(detections: pa.Table | pa.RecordBatch) -> Iterator[tuple[int, bytes]]:
    """The rows with an identity, and what it adds to their record; no identity adds nothing."""
    if "track_id" in detections.schema.names:
        tracks = _combined(detections, "track_id")
        for row in np.flatnonzero(flags(tracks.is_valid())).tolist():
            yield row, b"track:" + tracks[row].as_py().encode()


def _combined(detections: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    column = detections.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _batches_of_video(uri: str, file: BinaryIO, video_id: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches that may have rows of this video, each with the number of its first row."""
    if not is_parquet(uri):
        first = 0
        for batch in table_batches(uri, file):
            yield first, batch
            first += len(batch)
        return
    parquet = pq.ParquetFile(file)
    if "video_id" not in parquet.schema_arrow.names:
        raise ManifestError(f"column video_id is missing; the table has {clip(parquet.schema_arrow.names)}")
    columns = {*GIVEN.names, *FLAT, *OTHER_NAMES}
    wanted = [name for name in parquet.schema_arrow.names if name in columns]
    firsts = np.cumsum([0, *(parquet.metadata.row_group(g).num_rows for g in range(parquet.num_row_groups))])
    for group in groups_of(parquet.metadata, video_id):
        first = int(firsts[group])
        for batch in parquet.iter_batches(_ROWS, row_groups=[group], columns=wanted, use_threads=False):
            yield first, batch
            first += len(batch)


def is_parquet(uri: str) -> bool:
    return uri.partition("?")[0].lower().endswith((".parquet", ".pq"))


def is_sorted(metadata: pq.FileMetaData) -> bool:
    """Whether a video's rows lie in few row groups, by the minimum and maximum of video_id that the file states."""
    at, last = metadata.schema.names.index("video_id"), b""
    for group in range(metadata.num_row_groups if metadata.num_row_groups > 1 else 0):
        statistics = metadata.row_group(group).column(at).statistics
        if statistics is None or not statistics.has_min_max:
            return False
        low, high = (v.encode() if isinstance(v, str) else v for v in (statistics.min, statistics.max))
        if low < last:
            return False
        last = high
    return True


def groups_of(metadata: pq.FileMetaData, video_id: str) -> Sequence[int]:
    """The row groups that may have rows of this video, by the minimum and maximum that the file states."""
    at = metadata.schema.names.index("video_id")
    wanted = video_id.encode()
    found = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(at).statistics
        if statistics is not None and statistics.has_min_max:
            low, high = (v.encode() if isinstance(v, str) else v for v in (statistics.min, statistics.max))
            if not low <= wanted <= high:
                continue
        found.append(group)
    return found
