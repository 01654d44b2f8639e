"""What is published, for planning: columns of the videos table. Loads no DuckDB."""

from collections.abc import Sequence

import pyarrow as pa

from pipeline.errors import StorageError
from pipeline.labels import VIDEOS
from pipeline.storage import Store
from pipeline.tables.delta import dataset

KEY_COLUMNS = (
    "video_id", "label_key", "version", "start_s", "end_s", "fps", "prompts_digest", "weights_digest", "parameters",
    "algorithm_version", "detections_digest", "association", "label_rate",
)  # fmt: skip


def labelled_videos(store: Store, columns: Sequence[str] = KEY_COLUMNS) -> pa.Table:
    """Columns of the videos table; empty before the first publication.

    Values that whole runs share are dictionary-encoded, since a million copies of them take hundreds of MB.
    """
    found = dataset(store, "videos")
    if found is None:
        return pa.schema([VIDEOS.field(name) for name in columns]).empty_table()
    try:
        there = [name for name in columns if name in found.schema.names]  # older releases had fewer
        batches = found.to_batches(columns=there, batch_size=65_536, batch_readahead=1, fragment_readahead=1)
        tables = [_with_dictionaries(pa.Table.from_batches([batch])) for batch in batches]
        table = pa.concat_tables(tables).unify_dictionaries() if tables else found.schema.empty_table().select(there)
    except OSError as error:
        raise StorageError(f"cannot read the table {store}/videos: {error}") from None
    for name in (name for name in columns if name not in there):
        table = table.append_column(VIDEOS.field(name), pa.nulls(table.num_rows, VIDEOS.field(name).type))
    return table.select(list(columns))


def _with_dictionaries(table: pa.Table) -> pa.Table:
    for at, name in enumerate(table.column_names):
        if name in ("weights_digest", "parameters", "association"):
            table = table.set_column(at, name, table[name].dictionary_encode())
    return table
