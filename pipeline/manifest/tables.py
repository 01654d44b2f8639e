"""Tables that users bring as Parquet, CSV or JSON lines."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.source import blaming, row_batches
from pipeline.manifest.unflatten import POINT_LISTS, SIDES

_TEXTS = ("video_id", "category", "mask_counts")
"""Columns of text, whatever their values look like: a 007 is no number here and a date no date."""


def read_table(uri: str, file: BinaryIO) -> pa.Table:
    """All of a table of boxes or prompts."""
    with blaming(uri):
        found = list(table_batches(uri, file))
        if not found:
            raise ManifestError("the table has no rows")
        return pa.Table.from_batches(found)


def table_batches(uri: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    match PurePosixPath(uri.lower()).suffix:
        case ".csv":
            types = {name: pa.string() for name in (*_TEXTS, "points", *POINT_LISTS)}
            options = pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            yield from pyarrow.csv.open_csv(file, convert_options=options)
        case ".jsonl" | ".ndjson":
            numbers = ("time_s", *SIDES)  # JSON's 3 and 3.5 may stand in different blocks of the file
            schema = pa.schema([*((name, pa.string()) for name in _TEXTS), *((name, pa.float64()) for name in numbers)])
            yield from pyarrow.json.read_json(
                file, parse_options=pyarrow.json.ParseOptions(explicit_schema=schema)
            ).to_batches()
        case ".parquet" | ".pq":
            yield from row_batches(pq.ParquetFile(file))
        case _:
            raise ManifestError("the table must be a file that ends in .parquet, .csv or .jsonl")
