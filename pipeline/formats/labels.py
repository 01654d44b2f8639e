"""The label tables of an output as one DuckDB connection: the only place here that knows how they are read."""

import duckdb
import pyarrow as pa

from pipeline.formats.selection import Selection
from pipeline.storage import Storage
from pipeline.tables.query import open_labels


def open_selection(
    output: str, *, storage: Storage | None = None, where: str | None = None, every: int = 1
) -> Selection:
    """What is selected of the published labels of an output."""
    return Selection(open_labels(output, storage=storage).connection, where=where, every=every)


def connect(masks: pa.Table, masklets: pa.Table, videos: pa.Table) -> duckdb.DuckDBPyConnection:
    """Label tables that are in memory, as `Selection` reads them."""
    connection = duckdb.connect()
    connection.register("masks", masks)
    connection.register("masklets", masklets)
    connection.register("videos", videos)
    return connection
