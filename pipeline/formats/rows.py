"""Tables of masks: the one form that every format is read into."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

MASK_ROWS = pa.schema(
    [
        ("video_id", pa.string()),
        ("object_id", pa.int64()),
        ("frame_index", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("counts", pa.string()),
        ("category", pa.string()),
    ]
)
"""A row per video, object and annotated frame; an empty mask says that the object is not visible there."""


class RowBuilder:
    """Builds a table of masks row by row."""

    def __init__(self) -> None:
        self._columns: dict[str, list[object]] = {name: [] for name in MASK_ROWS.names}

    def __len__(self) -> int:
        return len(self._columns["counts"])

    def add(
        self,
        video_id: str,
        object_id: int,
        frame_index: int,
        size: Sequence[int],
        counts: str,
        category: str | None = None,
    ) -> None:
        row = (video_id, object_id, frame_index, size[0], size[1], counts, category)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def table(self) -> pa.Table:
        """The rows, sorted by video, object and frame."""
        return sorted_rows(pa.table(self._columns, schema=MASK_ROWS))


def sorted_rows(table: pa.Table) -> pa.Table:
    """The table sorted by video, object and frame."""
    return table.sort_by([("video_id", "ascending"), ("object_id", "ascending"), ("frame_index", "ascending")])


def by_video(table: pa.Table) -> dict[str, pa.Table]:
    """Slices of a sorted table, one for each video."""
    return {str(ids): rows for ids, rows in _groups(table, "video_id")}


def by_object(table: pa.Table) -> dict[int, pa.Table]:
    """Slices of one video's sorted table, one for each object."""
    return {int(str(ids)): rows for ids, rows in _groups(table, "object_id")}


def _groups(table: pa.Table, name: str) -> list[tuple[object, pa.Table]]:
    if not table.num_rows:
        return []
    runs = pa.compute.run_end_encode(table.column(name).combine_chunks())
    runs = runs.combine_chunks() if isinstance(runs, pa.ChunkedArray) else runs
    ends = np.asarray(runs.run_ends)
    starts = np.concatenate(([0], ends[:-1]))
    return [
        (value, table.slice(start, end - start))
        for value, start, end in zip(runs.values.to_pylist(), starts.tolist(), ends.tolist(), strict=True)
    ]
