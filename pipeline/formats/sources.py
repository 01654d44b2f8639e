"""Masks of many videos in a label output, in memory, or in files of any format."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.rows import MASK_ROWS, by_video, sorted_rows
from pipeline.formats.selection import Selection

UNKNOWN_ROWS = 2_000
"""Assumed number of mask rows of a video that has not been read yet."""

FrameProtocol = Literal["davis", "sav", "all"]
"""Which annotated frames count in an evaluation: `davis` leaves out the first and last of the video, `sav` those of
each object, `all` none. Both benchmarks give the first frame of a masklet as its prompt, so it is not a prediction."""


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


class MaskSource(Protocol):
    """Masks of many videos."""

    @property
    def kind(self) -> str:
        """The name of the format, `labels` for a label output, `table` for a table of masks."""

    @property
    def protocol(self) -> FrameProtocol:
        """Which annotated frames count if these masks are the truth."""

    def row_counts(self) -> Mapping[str, int]:
        """Video ids in order, each with its number of mask rows, or an assumed one."""

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        """MASK_ROWS of some videos, sorted by object and frame, and what could not be read."""

    def at_a_rate(self, video_ids: Sequence[str]) -> set[str]:
        """Which of these videos were labelled on some frames only, so that a frame without masks says nothing."""


@dataclass(frozen=True)
class SelectedMasks:
    """Selected masks of a label output."""

    selection: Selection
    kind: str = "labels"
    protocol: FrameProtocol = "all"

    def row_counts(self) -> Mapping[str, int]:
        return {video.video_id: video.rows for video in self.selection.counts()}

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        rows = self.selection.read(video_ids).select(MASK_ROWS.names).cast(MASK_ROWS)
        return by_video(sorted_rows(rows)), []

    def at_a_rate(self, video_ids: Sequence[str]) -> set[str]:
        facts = self.selection.videos(video_ids)
        return {video_id for video_id, row in facts.items() if row.get("label_rate")}


@dataclass(frozen=True)
class TableMasks:
    """Masks in memory."""

    table: pa.Table
    kind: str = "table"
    protocol: FrameProtocol = "davis"

    def row_counts(self) -> Mapping[str, int]:
        found = self.table.column("video_id").value_counts().to_pylist()
        return {str(row["values"]): int(row["counts"]) for row in sorted(found, key=lambda row: str(row["values"]))}

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        wanted = pc.is_in(self.table.column("video_id"), value_set=pa.array(video_ids, pa.string()))
        return by_video(sorted_rows(self.table.filter(wanted))), []

    def at_a_rate(self, _video_ids: Sequence[str]) -> set[str]:
        return set()


@dataclass(frozen=True)
class FileMasks:
    """Masks in files with one video each; a video is read when it is requested."""

    video_ids: Collection[str]
    read_video: Callable[[str], pa.Table]
    kind: str
    protocol: FrameProtocol = "davis"

    def row_counts(self) -> Mapping[str, int]:
        return dict.fromkeys(sorted(self.video_ids), UNKNOWN_ROWS)

    def read(self, video_ids: Sequence[str]) -> tuple[dict[str, pa.Table], list[Problem]]:
        tables, problems = {}, []
        for video_id in video_ids:
            try:
                tables[video_id] = self.read_video(video_id)
            except CorpusError as error:
                problems.append(Problem(video_id=video_id, message=str(error)))
        return tables, problems

    def at_a_rate(self, _video_ids: Sequence[str]) -> set[str]:
        return set()


def file_of_each_video(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """From (video id, path) pairs, the path of each video.

    Raises:
        UsageError: Two files are of one video.
    """
    found: dict[str, str] = {}
    for video_id, path in pairs:
        if video_id in found:
            raise UsageError(f"{path} and {found[video_id]} are both of video {video_id!r}; give one")
        found[video_id] = path
    return found
