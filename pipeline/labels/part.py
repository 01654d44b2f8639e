"""The part as a file: Parquet mask rows, with the masklets and the videos row in its footer."""

import base64
import dataclasses
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels.schemas import MASKS, VIDEOS
from pipeline.storage.format_version import FORMAT, check_format

FORMAT_METADATA = b"sam2-corpus:format"
MASKLETS_METADATA = b"sam2-corpus:masklets"
VIDEO_METADATA = b"sam2-corpus:video"


@dataclasses.dataclass(frozen=True)
class Part:
    """One committed video: its mask rows, its masklets and its videos row."""

    masks: pa.Table
    masklets: pa.Table
    video: pa.Table
    """One row, the columns of VIDEOS and the manifest's extra ones."""


@dataclasses.dataclass(frozen=True)
class PartHeader:
    """The footer of a part, read without its mask rows."""

    masklets: pa.Table
    video: pa.Table
    rows: int


def read_part(file: str | Path | BinaryIO | bytes) -> Part:
    """A whole part, from a path, an open file or its bytes."""
    with pq.ParquetFile(pa.BufferReader(file) if isinstance(file, bytes) else file) as parquet:
        header = header_of(parquet.metadata)
        return Part(parquet.read(), header.masklets, header.video)


def read_part_header(tail: bytes) -> PartHeader | int:
    """Masklets and videos row from the last bytes of a part, or how many bytes are needed if these are too few."""
    if len(tail) < 12 or tail[-4:] != b"PAR1":
        raise ValueError("not a Parquet file, or a truncated one")
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if needed > len(tail):
        return needed
    return header_of(pq.read_metadata(pa.BufferReader(b"PAR1" + tail[-needed:])))


def footer(masklets: pa.Table, video: pa.Table) -> dict[bytes, bytes]:
    """The masklets and the videos row as a Parquet file's metadata, so that one put commits everything."""
    return {
        FORMAT_METADATA: str(FORMAT).encode(),
        MASKLETS_METADATA: _to_text(masklets),
        VIDEO_METADATA: _to_text(video),
    }


def parquet_settings() -> dict[str, Any]:
    """Arguments of the ParquetWriter of parts: dictionaries for repeated ids, zstd for all columns."""
    return {
        "compression": "zstd",
        "use_dictionary": ["video_id", "object_id", "height", "width", "label_key"],
        "write_statistics": [name for name in MASKS.names if name != "counts"],
        "store_schema": True,
    }


def header_of(metadata: pq.FileMetaData) -> PartHeader:
    """Masklets and videos row of an open part.

    Raises:
        ValueError: It is no part, or damaged.
    """
    held: dict[bytes, bytes] = metadata.metadata or {}
    check_format(held.get(FORMAT_METADATA), what="the label part")
    if MASKLETS_METADATA not in held or VIDEO_METADATA not in held:
        raise ValueError("a Parquet file, but not a label part: its footer holds no masklets and videos rows")
    video = _with_all_columns(_from_text(held[VIDEO_METADATA]))
    return PartHeader(_from_text(held[MASKLETS_METADATA]), video, metadata.num_rows)


def _with_all_columns(video: pa.Table) -> pa.Table:
    """A videos row with the columns of VIDEOS that its version did not have, as nulls."""
    for field in VIDEOS:
        if field.name not in video.schema.names:
            video = video.append_column(field, pa.nulls(len(video), field.type))
    return video


def _to_text(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue())  # Parquet's metadata are strings to other readers


def _from_text(text: bytes) -> pa.Table:
    return pa.ipc.open_stream(base64.b64decode(text, validate=True)).read_all()
