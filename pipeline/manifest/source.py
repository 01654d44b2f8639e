"""Opening the files a manifest is read from, and their row groups in pieces of bounded size."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ManifestError, StorageError
from pipeline.storage import open_source, redact

OpenFile = Callable[[str], BinaryIO]

_BATCH_BYTES = 64 * 2**20
_BATCH_ROWS = 32_768


def open_any(uri: str) -> BinaryIO:
    """A path or any fsspec URL."""
    return open_source(uri)[0]


def in_memory(
    manifest: str | Path | pa.Table, prompts: str | Path | pa.Table | None, open_file: OpenFile
) -> tuple[str | Path, str | Path | None, OpenFile]:
    """Tables that are no files as if they were, so that the same rules hold for them and the same messages come."""
    tables = {}
    if isinstance(manifest, pa.Table):
        manifest, tables["manifest-table.parquet"] = "manifest-table.parquet", manifest
    if isinstance(prompts, pa.Table):
        prompts, tables["prompt-table.parquet"] = "prompt-table.parquet", prompts

    def open_either(uri: str) -> BinaryIO:
        if uri not in tables:
            return open_file(uri)
        buffer = io.BytesIO()
        pq.write_table(tables[uri], buffer)
        buffer.seek(0)
        return buffer

    return manifest, prompts, open_either


@contextlib.contextmanager
def opened(uri: str | Path, open_file: OpenFile) -> Iterator[BinaryIO]:
    """A manifest that cannot be opened is a wrong argument, whatever the storage's reason."""
    try:
        file = open_file(str(uri))
    except (StorageError, OSError) as error:
        raise ManifestError(str(error)) from error
    with file:
        yield file


@contextlib.contextmanager
def blaming(uri: str | Path) -> Iterator[None]:
    """Whatever goes wrong inside is said of this file."""
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"{redact(str(uri))}: {error}") from error.__cause__
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{redact(str(uri))}: cannot be read: {error}") from error


def row_batches(file: pq.ParquetFile, *, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows, never more than one row group's compressed bytes and one batch in memory."""
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        bytes_per_row = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // bytes_per_row))
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=columns, use_threads=False)
