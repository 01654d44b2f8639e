"""Small Parquet files as bytes in memory."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(data: bytes, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, with all or some of its columns.

    `pq.read_table` is not used: threads of Arrow's dataset reader outlive the call, and a thread that still holds a
    Python object at exit aborts the process ("terminate called without an active exception").

    Raises:
        ValueError: It is no Parquet file, or a damaged one (pa.ArrowInvalid).
        OSError: A page of it is damaged.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=None if columns is None else list(columns))


def to_parquet(table: pa.Table) -> bytes:
    """A file that `read_parquet` reads."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
