"""Lance: one table with a row for each mask."""

import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.formats.library import LibraryFormat, videos_of
from pipeline.formats.selection import Selection
from pipeline.formats.split import Splits
from pipeline.storage import Storage, Store

WRITTEN_BY = b"sam2_corpus_export"
"""Key in the metadata of tables that exports write; only such a table is replaced."""


class LanceFormat(LibraryFormat):
    """A table of the selected columns and `split`; it becomes visible when it is complete.

    `frame_index` counts within the labelled segment, `time_s` from the start of the file.
    """

    name = "lance"
    about = "a Lance table of masks (needs pylance)"
    package = "pylance"

    def write(self, library: Any, selection: Selection, to: str, *, splits: Splits, storage: Storage | None) -> int:
        _check_ours(library, Store(to, storage=storage))
        batches = _batches(selection, splits)
        first = next(batches)

        schema = first.schema.with_metadata({WRITTEN_BY: b"1"})
        marked = (one.replace_schema_metadata(schema.metadata) for one in itertools.chain([first], batches))
        reader = pa.RecordBatchReader.from_batches(schema, marked)
        return int(library.write_dataset(reader, to, schema=schema, mode="overwrite").count_rows())


def _check_ours(library: Any, store: Store) -> None:
    """
    Raises:
        UsageError: The target holds a table or files that no export wrote.
    """
    if next(iter(store.list()), None) is None:
        return
    try:
        metadata = library.dataset(store.uri).schema.metadata or {}
    except (ValueError, OSError):
        metadata = {}
    if WRITTEN_BY not in metadata:
        raise UsageError(f"{store} is not a table that an export wrote, so it is not replaced; choose another place")


def _batches(selection: Selection, splits: Splits) -> Iterator[pa.RecordBatch]:
    for video in videos_of(selection, splits):
        split = pa.repeat(pa.scalar(video.split), video.rows.num_rows)
        yield from video.rows.append_column("split", split).combine_chunks().to_batches()
