"""The selected masks of one video, the input of every format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.formats.rows import by_video
from pipeline.formats.segments import FileFrames, file_frames
from pipeline.formats.selection import Chunk, Selection
from pipeline.formats.split import Splits
from pipeline.storage import Storage
from pipeline.storage.paths import quote_id

NO_CATEGORY = "object"
"""The class name written for objects without a category."""


@dataclass(frozen=True, kw_only=True)
class VideoMasks:
    """The selected masks of one video."""

    video_id: str
    split: str
    rows: pa.Table
    """Columns of the selection, sorted by frame and object."""
    facts: Mapping[str, Any]
    """The video's row of the videos table."""
    number: int
    """Position among the selected videos, from 0."""
    frames_before: int
    """Selected frames of all videos before this one; image numbers continue from here."""
    rows_before: int
    """Selected mask rows of all videos before this one."""

    @property
    def name(self) -> str:
        """The video id as a file name."""
        return quote_id(self.video_id)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.rows.column("height")[0].as_py()), int(self.rows.column("width")[0].as_py())

    @property
    def frame_count(self) -> int:
        """Frames of the labelled segment, or up to the last selected one where that is unknown."""
        return int(self.facts.get("frames") or self.rows.column("frame_index")[-1].as_py() + 1)

    @property
    def fps(self) -> float:
        """Frames per second; 0 where unknown."""
        return float(self.facts.get("fps") or 0.0)

    def in_file(self, storage: Storage | None = None) -> FileFrames:
        """The position of the labelled segment in its file; opens the file, unless the whole of it was labelled.

        Raises:
            VideoError: The file cannot be decoded any more, or does not reach the segment.
            StorageError: The file cannot be read.
        """
        return file_frames(self.facts, self.rows, frames=self.frame_count, storage=storage)

    def by_frame(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Each frame in order, with its rows."""
        frame, waiting = -1, list[dict[str, Any]]()
        for batch in self.rows.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                if row["frame_index"] != frame:
                    if waiting:
                        yield frame, waiting
                    frame, waiting = row["frame_index"], []
                waiting.append(row)
        if waiting:
            yield frame, waiting

    def categories(self) -> dict[int, str]:
        """The class name of each object, in order of object ids."""
        pairs = self.rows.select(["object_id", "category"]).group_by(["object_id", "category"]).aggregate([])
        return {row["object_id"]: row["category"] or NO_CATEGORY for row in sorted(pairs.to_pylist(), key=_object_id)}


def read_videos(selection: Selection, chunk: Chunk, splits: Splits) -> Iterator[VideoMasks]:
    """The videos of a chunk in order."""
    frames_before, rows_before = chunk.frames_before, chunk.rows_before
    ids = [video.video_id for video in chunk.videos]
    facts = selection.videos(ids)
    tables = by_video(selection.read(ids))
    for number, video in enumerate(chunk.videos, start=chunk.first):
        yield VideoMasks(
            video_id=video.video_id,
            split=splits.of(video.video_id),
            rows=tables[video.video_id],
            facts=facts.get(video.video_id, {}),
            number=number,
            frames_before=frames_before,
            rows_before=rows_before,
        )
        frames_before += video.frames
        rows_before += video.rows


def _object_id(row: Mapping[str, Any]) -> int:
    return int(row["object_id"])
