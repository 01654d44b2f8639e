"""YouTube-VIS: an annotation for each object of a video, with a segmentation for each frame."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.formats.coco_json import (
    MALFORMED,
    bbox,
    category_names,
    frame_of_name,
    load_document,
    open_documents,
    split_document,
    to_json,
)
from pipeline.formats.format import Document, ExportContext, Format, Piece
from pipeline.formats.location import Location, describe
from pipeline.formats.rows import RowBuilder
from pipeline.formats.segments import segment_of
from pipeline.formats.sources import MaskSource
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.masks.segmentation import to_counts


class YouTubeVisFormat(Format):
    """`SPLIT/instances.json`; a segmentation is null on frames where the object is not visible.

    File names count frames within the segment that the video's start_s and end_s give, if it has them.
    """

    name = "youtube-vis"
    about = "YouTube-VIS instances, an annotation for each object"

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        height, width = video.size
        frames = sorted(set(video.rows.column("frame_index").to_pylist()))
        place = {frame: at for at, frame in enumerate(frames)}
        about = {
            "id": video.number + 1,
            "file_names": [f"{video.name}/{frame:05d}.jpg" for frame in frames],
            "height": height,
            "width": width,
            "length": len(frames),
            **segment_of(video.facts),
        }
        path = _path(video.split)
        yield Piece(path, to_json(about), section="videos")
        tracks: dict[int, list[Mapping[str, Any] | None]] = defaultdict(lambda: [None] * len(frames))
        for frame, rows in video.by_frame():
            for row in rows:
                tracks[row["object_id"]][place[frame]] = row if row["area"] else None
        names = video.categories()
        for number, (object_id, name) in enumerate(names.items(), start=video.rows_before + 1):
            seen = tracks[object_id]
            annotation = {
                "id": number,
                "video_id": video.number + 1,
                "category_id": context.category(name) + 1,
                "segmentations": [row and rle.to_coco(row) for row in seen],
                "bboxes": [row and bbox(row) for row in seen],
                "areas": [row and row["area"] for row in seen],
                "height": height,
                "width": width,
                "length": len(frames),
                "iscrowd": 0,
                "track_id": object_id,
            }
            yield Piece(path, to_json(annotation), section="annotations")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        return [split_document(_path(split), context, "videos", "annotations") for split in context.filled_splits]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"{video.split}/JPEGImages/{video.name}/{frame_index:05d}.jpg"

    def recognizes(self, at: Location) -> bool:
        return at.json_keys >= {"annotations", "videos"} and "images" not in at.json_keys

    def open_masks(self, at: Location) -> MaskSource:
        return open_documents(at, read_youtube_vis, self.name)


def read_youtube_vis(data: bytes | str, *, name: str = "YouTube-VIS JSON") -> pa.Table:
    """MASK_ROWS of a YouTube-VIS document. The folder of the frames gives the video, a file's number the frame.

    Raises:
        UsageError: The document is malformed.
    """
    document = load_document(data, name)
    try:
        categories = category_names(document)
        videos = {video["id"]: _frames_of(video) for video in document["videos"]}
        rows = RowBuilder()
        for annotation in document["annotations"]:
            video_id, frames, size = videos[annotation["video_id"]]
            empty = rle.compress(np.array([size[0] * size[1]]), np.array([1]))[0]
            object_id = int(annotation.get("track_id", annotation["id"]))
            category = categories.get(annotation.get("category_id"))
            for frame, segmentation in zip(frames, annotation["segmentations"], strict=True):
                counts = to_counts(segmentation, size) if segmentation else empty
                rows.add(video_id, object_id, frame, size, counts, category)
        return rows.table()
    except MALFORMED as error:
        raise UsageError(f"{name} is not YouTube-VIS: {describe(error)}") from error


def _path(split: str) -> str:
    return f"{split}/instances.json"


def _frames_of(video: Mapping[str, Any]) -> tuple[str, list[int], tuple[int, int]]:
    names: Sequence[str] = video["file_names"]
    found = [frame_of_name(name) for name in names]
    if len({video_id for video_id, _ in found}) > 1:
        raise ValueError(f"the frames of video {video['id']} are in several folders")
    video_id = found[0][0] if found else str(video["id"])
    return video_id, [frame for _, frame in found], rle.check_size((video["height"], video["width"]))
