"""Which frames of its file a labelled segment has, for formats that refer to the whole file.

Labels number frames within the segment that start_s and end_s cut out; annotation tools number those of the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import PromptError, VideoError
from pipeline.storage import Storage
from pipeline.video.content import open_uri


@dataclass(frozen=True, kw_only=True)
class FileFrames:
    """The position of a segment in its file."""

    before: int
    """Frames of the file before the segment."""
    count: int
    """Frames of the file, or of its beginning that is known to exist; at least up to the end of the segment."""


def segment_of(facts: Mapping[str, Any]) -> dict[str, float]:
    """start_s and end_s if they are set, from a row of the videos table; empty for a whole file."""
    return {name: float(facts[name]) for name in ("start_s", "end_s") if facts.get(name) is not None}


def file_frames(facts: Mapping[str, Any], rows: pa.Table, *, frames: int, storage: Storage | None = None) -> FileFrames:
    """The position of a video's segment in its file. Opens the file, unless the whole of it was labelled.

    Args:
        facts: the row of the videos table.
        rows: mask rows of the video, with frame_index and time_s.
        frames: frames of the segment.

    Raises:
        VideoError: The file cannot be decoded any more, or does not reach the segment.
        StorageError: The file cannot be read.
    """
    segment = segment_of(facts)
    if not segment:
        return FileFrames(before=0, count=frames)
    frame, time_s = rows.column("frame_index")[0].as_py(), rows.column("time_s")[0].as_py()
    uri = str(facts.get("uri") or "")
    with open_uri(uri, storage=storage, fps=facts.get("fps")) as (reader, _):
        try:
            before = reader.index_at([time_s])[0] - frame
        except PromptError as error:
            raise VideoError(f"{uri} has no frame at {time_s:g} s, which was labelled as frame {frame}") from error
        count = before + frames
        if "end_s" in segment:
            try:
                count = max(count, reader.index_at([segment["end_s"]])[0] + 1)
            except PromptError:  # the file ends with the segment
                return FileFrames(before=before, count=count)
            count = max(count, reader.info.container_frames or 0)
    return FileFrames(before=before, count=count)
