"""Tables that users bring as Parquet, CSV or JSON lines."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.csv_table import csv_batches
from pipeline.manifest.kinds import PROMPT_KINDS
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.source import OpenFile, naming_file, open_any, open_or_refuse, row_batches

TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("video_id", "category"), pa.string()),
    **dict.fromkeys(("object_id", "frame_index"), pa.int64()),
    **dict.fromkeys(("time_s", "score", "fps", "confidence", "conf"), pa.float64()),
    **dict.fromkeys(("xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2"), pa.float64()),
    **dict.fromkeys(("left", "top", "bb_left", "bb_top", "x_center", "y_center"), pa.float64()),
    **dict.fromkeys(("width", "height", "bb_width", "bb_height"), pa.float64()),
    **{name: kind for field in (*PROMPT_KINDS, *MODIFIERS) for name, kind in field.flat.items()},
}
"""Columns of prompts and detections, and those of other tools, by their meaning, in files whose values have no types; a
007 may be text."""


def read_table(uri: str, *, open_file: OpenFile = open_any) -> pa.Table:
    """All of a table of boxes or prompts."""
    with open_or_refuse(uri, open_file) as file, naming_file(uri):
        found = list(table_batches(uri, file))
        if not found:
            raise ManifestError("the table has no rows")
        # A batch with a fraction in a column of whole numbers has floats there, for the rules to refuse.
        return pa.concat_tables([pa.Table.from_batches([batch]) for batch in found], promote_options="permissive")


def table_batches(uri: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """The rows of a table in the format of its suffix: .parquet, .csv or .jsonl."""
    match _suffix(uri):
        case ".csv":
            yield from csv_batches(file, TYPES)
        case ".jsonl" | ".ndjson":
            # Integers and lists are left to the reader, which finds the widest type of all rows.
            types = {
                name: kind for name, kind in TYPES.items() if not (pa.types.is_integer(kind) or pa.types.is_list(kind))
            }
            explicit = pyarrow.json.ParseOptions(explicit_schema=pa.schema(list(types.items())))
            table = pyarrow.json.read_json(file, parse_options=explicit)
            absent = [name for name in types if table[name].null_count == len(table)]
            yield from table.drop_columns(absent).to_batches()
        case ".parquet" | ".pq":
            yield from row_batches(pq.ParquetFile(file))
        case _:
            raise ManifestError("the table must be a file that ends in .parquet, .csv or .jsonl")


def column_names(uri: str, file: BinaryIO) -> list[str]:
    """The names of a table's columns; of Parquet without reading a row."""
    if _suffix(uri) in (".parquet", ".pq"):
        return list(pq.ParquetFile(file).schema_arrow.names)
    first = next(table_batches(uri, file), None)
    return [] if first is None else list(first.schema.names)


def _suffix(uri: str) -> str:
    path = uri.partition("?")[0] if "://" in uri else uri
    return PurePosixPath(path.lower()).suffix
