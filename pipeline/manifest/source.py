"""Files of manifests: how they are opened, and their row groups in batches of bounded size."""

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
    """Open a path or fsspec URL for reader."""
    return open_source(uri)[0]


def in_memory(manifest: object, prompts: object, open_file: OpenFile) -> tuple[str, str | None, OpenFile]:
    """URIs of manifest and prompts, and how to open them; tables in memory get names, so that all rules hold for them.

    Raises:
        ManifestError: One of them is neither a path, a URI nor a table.
    """
    tables: dict[str, pa.Table] = {}

    def uri_of(given: object, name: str) -> str:
        if isinstance(given, str | Path):
            return str(given)
        if not hasattr(given, "__arrow_c_stream__"):
            raise ManifestError(
                f"{name} has the type {type(given).__name__}; allowed are a path, a URI, "
                "and a table of pyarrow, pandas or polars"
            )
        try:
            tables[f"{name}-table.parquet"] = given if isinstance(given, pa.Table) else pa.table(given)
        except pa.ArrowException as error:
            raise ManifestError(f"{name}: this {type(given).__name__} has no Arrow form: {error}") from None
        return f"{name}-table.parquet"

    def open_either(uri: str) -> BinaryIO:
        if uri not in tables:
            return open_file(uri)
        buffer = io.BytesIO()
        try:
            pq.write_table(tables[uri], buffer)
        except pa.ArrowException as error:
            raise ManifestError(f"{uri}: a column has a type that Parquet does not have: {error}") from None
        buffer.seek(0)
        return buffer

    return uri_of(manifest, "manifest"), None if prompts is None else uri_of(prompts, "prompt"), open_either


@contextlib.contextmanager
def open_or_refuse(uri: str | Path, open_file: OpenFile) -> Iterator[BinaryIO]:
    """The open file; ManifestError where it cannot be opened, whatever the reason."""
    try:
        file = open_file(str(uri))
    except (StorageError, OSError) as error:
        raise ManifestError(str(error)) from error
    with file:
        yield file


@contextlib.contextmanager
def naming_file(uri: str | Path) -> Iterator[None]:
    """Turn errors inside into ManifestErrors that name this file."""
    try:
        yield
    except ManifestError as error:
        raise ManifestError(f"{redact(str(uri))}: {error}") from error.__cause__
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{redact(str(uri))}: cannot be read: {error}") from error


def row_batches(file: pq.ParquetFile, *, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """All rows in batches; holds one row group's compressed bytes and one batch in memory."""
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        bytes_per_row = max(1, metadata.total_byte_size // max(1, metadata.num_rows))
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // bytes_per_row))
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=columns, use_threads=False)
