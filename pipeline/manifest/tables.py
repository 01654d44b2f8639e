"""Tables that users bring as Parquet, CSV or JSON lines."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.flat_points import LISTS as POINT_LISTS
from pipeline.manifest.kinds import SIDES
from pipeline.manifest.source import OpenFile, blaming, open_any, opened, row_batches

_TEXTS = ("video_id", "category", "mask_counts")
"""Columns of text, whatever their values look like: a 007 is no number here and a date no date."""
_NUMBERS = ("time_s", *SIDES, "score", "fps")
"""Columns with fractions, even if the part of the file that types are inferred from has none."""
_FLAGS = ("correct",)
"""Columns of true and false."""


def read_table(uri: str, *, open_file: OpenFile = open_any) -> pa.Table:
    """All of a table of boxes or prompts."""
    with opened(uri, open_file) as file, blaming(uri):
        found = list(table_batches(uri, file))
        if not found:
            raise ManifestError("the table has no rows")
        return pa.Table.from_batches(found)


def table_batches(uri: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The table's rows; a file is told by its suffix."""
    types = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
    types |= dict.fromkeys(_FLAGS, pa.bool_())
    path = uri.partition("?")[0] if "://" in uri else uri
    match PurePosixPath(path.lower()).suffix:
        case ".csv":
            lists = dict.fromkeys(("points", *POINT_LISTS), pa.string())
            options = pyarrow.csv.ConvertOptions(column_types=types | lists, null_values=[""], strings_can_be_null=True)
            yield from pyarrow.csv.open_csv(file, convert_options=options)
        case ".jsonl" | ".ndjson":
            explicit = pyarrow.json.ParseOptions(explicit_schema=pa.schema(list(types.items())))
            table = pyarrow.json.read_json(file, parse_options=explicit)
            absent = [name for name in types if table[name].null_count == len(table)]
            yield from table.drop_columns(absent).to_batches()
        case ".parquet" | ".pq":
            yield from row_batches(pq.ParquetFile(file))
        case _:
            raise ManifestError("the table must be a file that ends in .parquet, .csv or .jsonl")
