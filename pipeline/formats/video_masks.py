"""The selected masks of one video, the input of every format."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline.errors import UsageError
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

    def next_frame(self, frame: int, every: int) -> int:
        """The selected frame after one, where every so many frames are selected; objects may have no row there."""
        rate = self.facts.get("label_rate")
        if not rate:
            return frame + every
        step = math.lcm(every, _stride(rate, self.fps))
        place = bisect_right(self._frames, frame)
        later = self._frames[place] if place < len(self._frames) else None
        slack = step + rate.endswith("fps")  # a rate that does not divide the video's alternates between two strides
        return later if later is not None and later <= frame + slack else frame + step

    def check_stride(self, every: int) -> None:
        """Refuse a stride whose frames were not all labelled, for formats that write an absent mask as an empty one.

        Raises:
            UsageError: The video was labelled at a rate that leaves out some of these frames.
        """
        rate, frames = self.facts.get("label_rate"), self._frames
        if not rate:
            return
        wanted = set(range(-(-frames[0] // every) * every, frames[-1] + 1, every))
        if every % _stride(rate, self.fps) or (rate.endswith("fps") and not wanted <= set(frames)):
            raise UsageError(
                f"video {self.video_id!r} was labelled at {rate}, which leaves out frames of every {every}; choose a "
                "stride whose frames were labelled by --every, or label at a rate that has them"
            )

    @cached_property
    def _frames(self) -> list[int]:
        return sorted(set(self.rows.column("frame_index").to_pylist()))

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


def _stride(rate: str, fps: float) -> int:
    """Frames between two labelled ones, on average."""
    if rate.endswith("fps"):
        return max(1, round(fps / float(rate.removesuffix("fps"))))
    return int(rate.removesuffix("f"))


def _object_id(row: Mapping[str, Any]) -> int:
    return int(row["object_id"])
