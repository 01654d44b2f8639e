"""The labels of one video as those of another video of equal content and prompts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels.part import PartHeader, footer, header_of, parquet_settings
from pipeline.labels.schemas import MASKLETS, MASKS, VIDEOS, video_table

ROWS_AT_ONCE = 16_384


def copy_part(
    source: BinaryIO,
    target: Path,
    *,
    video_id: str,
    label_key: str,
    categories: Mapping[int, str | None],
    video: Callable[[dict[str, Any]], dict[str, Any]],
) -> PartHeader:
    """Write a part with the masks of another one under another id and key; returns the header of the source.

    Memory holds one row group.

    Args:
        source: an open part.
        categories: of the objects; those of the source are not kept, because they are no part of the label key.
        video: makes the new videos row, with columns of VIDEOS and "extra", from that of the source.

    Raises:
        ValueError: The source is no part, or damaged.
    """
    ids = {"video_id": video_id, "label_key": label_key}
    with pq.ParquetFile(source) as parquet, pq.ParquetWriter(str(target), MASKS, **parquet_settings()) as writer:
        header = header_of(parquet.metadata)
        for batch in parquet.iter_batches(ROWS_AT_ONCE):
            writer.write_table(_with_ids(pa.Table.from_batches([batch]), ids, MASKS))
        rows = _with_ids(header.masklets, ids, MASKLETS).to_pylist()
        masklets = [{**row, "category": categories.get(row["object_id"])} for row in rows]
        row = {**video(header.video.select(VIDEOS.names).to_pylist()[0]), **ids}
        writer.add_key_value_metadata(footer(pa.Table.from_pylist(masklets, schema=MASKLETS), video_table(row)))
    return header


def _with_ids(table: pa.Table, ids: Mapping[str, str], schema: pa.Schema) -> pa.Table:
    """The rows with other ids; columns that their version did not have are null."""
    columns = []
    for field in schema:
        if field.name in ids:
            columns.append(pa.repeat(pa.scalar(ids[field.name], field.type), table.num_rows))
        elif field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(table.num_rows, field.type))
    return pa.Table.from_arrays(columns, schema=schema)
