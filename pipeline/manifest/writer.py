"""Manifests as Parquet files in the canonical schema."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.manifest.schema import SCHEMA, Manifest

_ROWS = 10_000


def write_rows(rows: Iterable[dict[str, Any]], path: Path) -> int:
    """Write rows to a local Parquet file in pieces; returns their number. They are checked when read.

    Columns of the first rows that the schema of manifests does not have are kept; null where a row lacks them.
    """
    count, waiting = 0, iter(rows)
    some = list(islice(waiting, _ROWS))
    more = {name: pa.scalar(value).type for row in reversed(some) for name, value in row.items()
            if name not in SCHEMA.names and value is not None}  # fmt: skip
    schema = pa.schema([*SCHEMA, *more.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some:
            columns = [pa.array([row.get(field.name) for row in some], field.type) for field in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(some)
            some = list(islice(waiting, _ROWS))
    return count


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest to a local Parquet file."""
    pq.write_table(manifest.table, path, row_group_size=100_000, compression="zstd")
