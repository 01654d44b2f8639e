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
    """Write rows to a local Parquet file in pieces; returns their number. They are checked when read."""
    count, waiting = 0, iter(rows)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while some := list(islice(waiting, _ROWS)):
            columns = [pa.array([row.get(field.name) for row in some], field.type) for field in SCHEMA]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
            count += len(some)
    return count


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest to a local Parquet file."""
    pq.write_table(manifest.table, path, row_group_size=100_000, compression="zstd")
