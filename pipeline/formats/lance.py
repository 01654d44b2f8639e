"""Lance: one table with a row for each mask."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.formats.library import LibraryFormat, videos_of
from pipeline.formats.selection import Selection
from pipeline.formats.split import Splits
from pipeline.storage import Storage


class LanceFormat(LibraryFormat):
    """A table of the selected columns and `split`; it becomes visible when it is complete.

    `frame_index` counts within the labelled segment, `time_s` from the start of the file.
    """

    name = "lance"
    about = "a Lance table of masks (needs pylance)"
    package = "pylance"

    def write(self, library: Any, selection: Selection, to: str, *, splits: Splits, storage: Storage | None) -> int:  # noqa: ARG002
        batches = _batches(selection, splits)
        first = next(batches)

        def all_batches() -> Iterator[pa.RecordBatch]:
            yield first
            yield from batches

        reader = pa.RecordBatchReader.from_batches(first.schema, all_batches())
        return int(library.write_dataset(reader, to, schema=first.schema, mode="overwrite").count_rows())


def _batches(selection: Selection, splits: Splits) -> Iterator[pa.RecordBatch]:
    for video in videos_of(selection, splits):
        split = pa.repeat(pa.scalar(video.split), video.rows.num_rows)
        yield from video.rows.append_column("split", split).combine_chunks().to_batches()
