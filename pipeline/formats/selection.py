"""Which rows of a label output are selected, read chunk by chunk so that memory does not grow with the output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.errors import UsageError

CHUNK_ROWS = 40_000
"""Mask rows in memory at once; a video with more rows is a separate chunk."""

COLUMNS = (
    "video_id", "object_id", "frame_index", "time_s", "is_prompted", "height", "width", "counts", "area",
    "x_min", "y_min", "x_max", "y_max", "object_logit", "predicted_iou", "category",
)  # fmt: skip

_IN_RANGE = "video_id BETWEEN $first AND $last"
"""Arrow skips files and row groups by a range, but not by a list."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive videos that are read together, with counts known before their masks are read."""

    first: int
    """Position of its first video among all selected ones, from 0."""
    frames_before: int
    """Selected frames of all videos before the chunk."""
    rows_before: int
    """Selected mask rows of all videos before the chunk."""
    videos: tuple["VideoCount", ...]

    @property
    def rows(self) -> int:
        return sum(video.rows for video in self.videos)


@dataclass(frozen=True, kw_only=True)
class VideoCount:
    """Counts of the selected rows of one video."""

    video_id: str
    rows: int
    frames: int
    label_key: str


class Selection:
    """The rows of a label output for which an SQL condition holds, on frames 0, N, 2N, ...

    The condition may use any column of masks, masklets and videos; a name in several of them means the first.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, where: str | None = None, every: int = 1) -> None:
        if every < 1:
            raise UsageError(f"the frame stride must be at least 1 (got {every})")
        self._connection = connection
        self._where = f"({where})" if where else "true"
        if every > 1:
            self._where += f" AND frame_index % {every} = 0"
        self._names = {table: self._columns(table) for table in ("masks", "masklets", "videos")}
        self.where = where
        self.every = every
        """Frame stride of the selection."""

    def counts(self) -> list[VideoCount]:
        """The selected videos in order of their ids."""
        found = self._run(
            f"SELECT video_id, count(*) AS rows, count(DISTINCT frame_index) AS frames, min(label_key) AS label_key "
            f"FROM {self._joined()} WHERE {self._where} GROUP BY video_id ORDER BY video_id"
        )
        return [VideoCount(**row) for row in found.to_pylist()]

    def categories(self) -> list[str | None]:
        """Names of the classes that occur, sorted; None where an object has none."""
        sql = f"SELECT DISTINCT category FROM {self._joined()} WHERE {self._where} ORDER BY category"
        return list(self._run(sql).column("category").to_pylist())

    def read(self, video_ids: Sequence[str]) -> pa.Table:
        """Mask rows of some videos, sorted by video, frame and object."""
        return self._run(
            f"SELECT {', '.join(COLUMNS)} FROM {self._joined(_IN_RANGE)} WHERE list_contains($ids, video_id) "
            f"AND {self._where} ORDER BY video_id, frame_index, object_id",
            {"first": min(video_ids), "last": max(video_ids), "ids": list(video_ids)},
        )

    def videos(self, video_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rows of the videos table."""
        found = self._run(
            f"SELECT * FROM videos WHERE {_IN_RANGE} AND list_contains($ids, video_id)",
            {"first": min(video_ids), "last": max(video_ids), "ids": list(video_ids)},
        )
        return {row["video_id"]: row for row in found.to_pylist()}

    def _joined(self, condition: str = "true") -> str:
        """The three tables as one; the condition on video_id applies to each, so that none is read completely."""
        taken: set[str] = set()
        wanted = []
        for table, names in self._names.items():
            new = [name for name in names if name.lower() not in taken]
            taken |= {name.lower() for name in new}
            wanted += [f'{table}."{name}"' for name in new]
        masks, masklets, videos = (f"(SELECT * FROM {table} WHERE {condition}) AS {table}" for table in self._names)
        return (
            f"(SELECT {', '.join(wanted)} FROM {masks} LEFT JOIN {masklets} USING (video_id, object_id) "
            f"LEFT JOIN {videos} USING (video_id))"
        )

    def _columns(self, table: str) -> list[str]:
        return list(self._run(f"SELECT * FROM {table} LIMIT 0").column_names)

    def _run(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        try:
            return self._connection.sql(sql, params=parameters).to_arrow_table()
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"the labels cannot be selected by {self._where!r}: {first}") from error


def chunks(videos: Sequence[VideoCount], *, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Videos in order, in groups of about `rows` mask rows."""
    waiting: list[VideoCount] = []
    first = frames_before = rows_before = held = 0
    for video in videos:
        if waiting and held + video.rows > rows:
            yield Chunk(first=first, frames_before=frames_before, rows_before=rows_before, videos=tuple(waiting))
            first += len(waiting)
            frames_before += sum(one.frames for one in waiting)
            rows_before += held
            waiting, held = [], 0
        waiting.append(video)
        held += video.rows
    if waiting:
        yield Chunk(first=first, frames_before=frames_before, rows_before=rows_before, videos=tuple(waiting))


def nothing_selected(selection: Selection) -> UsageError:
    """The error of a selection without rows."""
    return UsageError("no mask is selected" + (f" by --where {selection.where!r}" if selection.where else ""))
