"""Masks wherever they are, by video: a label output, or any format that can be read back."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError
from pipeline.formats.rows import MASK_ROWS, by_video, sorted_rows
from pipeline.formats.selection import Selection

UNKNOWN_ROWS = 2_000
"""A guess for videos whose masks have not been counted."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that could not be read or compared, and where."""

    video_id: str
    message: str
    object_id: int | None = None
    frame_index: int | None = None

    def __str__(self) -> str:
        where = [f"video {self.video_id!r}"]
        where += [f"object {self.object_id}"] if self.object_id is not None else []
        where += [f"frame {self.frame_index}"] if self.frame_index is not None else []
        return f"{', '.join(where)}: {self.message}"


class Source(Protocol):
    """Masks of many videos."""

    @property
    def kind(self) -> str: ...

    def rows(self) -> Mapping[str, int]:
        """Its videos, in order of their ids, with how many mask rows each has (or a guess)."""

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        """MASK_ROWS of some of its videos, sorted by object and frame; those that cannot be read are named."""


@dataclass(frozen=True)
class LabelSource:
    """A label output."""

    selection: Selection
    kind: str = "labels"

    def rows(self) -> Mapping[str, int]:
        return {video.video_id: video.rows for video in self.selection.counts()}

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        rows = self.selection.read(video_ids).select(MASK_ROWS.names).cast(MASK_ROWS)
        return by_video(sorted_rows(rows)), []


@dataclass(frozen=True)
class TableSource:
    """Masks that are in memory."""

    table: pa.Table
    kind: str = "table"

    def rows(self) -> Mapping[str, int]:
        found = self.table.column("video_id").value_counts().to_pylist()
        return {str(row["values"]): int(row["counts"]) for row in sorted(found, key=lambda row: str(row["values"]))}

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        wanted = pc.is_in(self.table.column("video_id"), value_set=pa.array(video_ids, pa.string()))
        return by_video(sorted_rows(self.table.filter(wanted))), []


@dataclass(frozen=True)
class FileSource:
    """Videos that are read one by one, from files of their own."""

    ids: Collection[str]
    reader: Callable[[str], pa.Table]
    kind: str

    def rows(self) -> Mapping[str, int]:
        return dict.fromkeys(sorted(self.ids), UNKNOWN_ROWS)

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        tables, problems = {}, []
        for video_id in video_ids:
            try:
                tables[video_id] = self.reader(video_id)
            except CorpusError as error:
                problems.append(Problem(video_id=video_id, message=str(error)))
        return tables, problems
