"""Opening the files a manifest is read from, and their row groups in pieces of bounded size."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ManifestError

OpenFile = Callable[[str], BinaryIO]

_BATCH_BYTES = 64 * 2**20
_BATCH_ROWS = 32_768


def open_any(uri: str) -> BinaryIO:
    return cast(BinaryIO, fsspec.open(uri, "rb").open())


@contextlib.contextmanager
def opened(uri: str | Path, open_file: OpenFile) -> Iterator[BinaryIO]:
    try:
        file = open_file(str(uri))
    except FileNotFoundError as error:
        raise ManifestError(f"{uri}: no such file") from error
    except (OSError, ValueError, ImportError) as error:
        raise ManifestError(f"{uri}: cannot be opened: {error}") from error
    with file:
        yield file


def row_batches(file: pq.ParquetFile, *, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows, never more than one row group's compressed bytes and one batch in memory."""
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        bytes_per_row = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // bytes_per_row))
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=columns, use_threads=False)
