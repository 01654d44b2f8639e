"""One video's labels, read for drawing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UsageError
from pipeline.manifest import prompts_from_json
from pipeline.tables.query import Labels
from pipeline.video import FrameGrid, VideoReader


@dataclass(frozen=True, kw_only=True)
class LabelledVideo:
    """Rows of the label tables of one video."""

    video: Mapping[str, Any]
    """Its row of the videos table."""
    masklets: Mapping[int, Mapping[str, Any]]
    """Rows of the masklets table by object id."""
    frames: Mapping[int, Sequence[Mapping[str, Any]]]
    """Rows of the masks table by frame index, in order of their object ids."""
    prompts: Sequence[Mapping[str, Any]]
    """As in the manifest; empty for older labels without prompts."""

    @property
    def video_id(self) -> str:
        return self.video["video_id"]

    def nearest(self, index: int) -> int:
        """The labelled frame whose masks are shown on a frame: itself, or the nearest one of a video at a rate.

        Where all objects have ended, the nearest frame with masks is farther than the next labelled frame: itself.
        """
        rate = self.video.get("label_rate")
        if not rate or index in self.frames or not self.frames:
            return index
        near = min(self.frames, key=lambda frame: (abs(frame - index), frame))
        return near if abs(near - index) < FrameGrid.of(rate).stride(self.video.get("fps")) else index

    def prompts_at(self, reader: VideoReader) -> dict[int, list[Mapping[str, Any]]]:
        """The prompts by frame index."""
        times = [each["time_s"] for each in self.prompts if "time_s" in each]
        timed = iter(reader.index_at(times) if times else [])
        found: dict[int, list[Mapping[str, Any]]] = {}
        for each in self.prompts:
            found.setdefault(each["frame_index"] if "frame_index" in each else next(timed), []).append(each)
        return found


def worst_frame(rows: Iterable[Mapping[str, Any]]) -> int:
    """The frame of one object's mask rows where it is present with the lowest sum of predicted IoU and stability."""
    rows = list(rows)

    def score(row: Mapping[str, Any]) -> float:
        return sum(1.0 if row.get(name) is None else row[name] for name in ("predicted_iou", "stability"))

    seen = [row for row in rows if row["is_present"]] or rows
    return min(seen, key=score)["frame_index"] if seen else 0


def load_videos(labels: Labels, video_ids: Sequence[str]) -> Iterator[LabelledVideo]:
    """The labels of these videos, one at a time.

    Raises:
        UsageError: One of them has no labels.
    """
    for video_id in video_ids:
        read, given = labels.connection.sql, {"id": video_id}
        videos = read("SELECT * FROM videos WHERE video_id = $id", params=given).to_arrow_table().to_pylist()
        if not videos:
            raise UsageError(f"video {video_id!r} has no published labels")
        masklets = read("SELECT * FROM masklets WHERE video_id = $id", params=given).to_arrow_table().to_pylist()
        rows = read("SELECT * FROM masks WHERE video_id = $id ORDER BY frame_index, object_id", params=given)
        frames: dict[int, list[Mapping[str, Any]]] = {}
        for row in rows.to_arrow_table().to_pylist():
            frames.setdefault(row["frame_index"], []).append(row)
        yield LabelledVideo(
            video=videos[0],
            masklets={row["object_id"]: row for row in masklets},
            frames=frames,
            prompts=prompts_from_json(videos[0].get("prompts")),
        )
