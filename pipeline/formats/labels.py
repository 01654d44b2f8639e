"""Selections from label tables: those of an output, or tables in memory."""

import duckdb
import pyarrow as pa

from pipeline.formats.selection import Selection
from pipeline.storage import Storage
from pipeline.tables.query import open_labels


def open_selection(
    output: str, *, storage: Storage | None = None, where: str | None = None, every: int = 1
) -> Selection:
    """The selected rows of the published labels of an output."""
    return Selection(open_labels(output, storage=storage).connection, where=where, every=every)


def connect(masks: pa.Table, masklets: pa.Table, videos: pa.Table) -> duckdb.DuckDBPyConnection:
    """Label tables in memory as a connection that `Selection` reads."""
    connection = duckdb.connect()
    connection.register("masks", masks)
    connection.register("masklets", masklets)
    connection.register("videos", videos)
    return connection
