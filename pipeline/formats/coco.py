"""COCO instances, an image for each frame, and YouTube-VIS, the same by video."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import Context, Document, Piece, Section, VideoMasks
from pipeline.formats.rows import RowBuilder
from pipeline.masks import rle
from pipeline.masks.outlines import fill
from pipeline.storage.paths import unquote_id

ABOUT = {"description": "Labels made with SAM 2", "version": "1.0"}
LICENSES: list[Any] = []


class CocoFormat:
    """`annotations/instances_SPLIT.json`. Numbers of images and annotations are unique across all splits.

    An annotation's `track_id` is the object's id in its video, and an image says which frame of which video it is.
    Frames in which an object is not to be seen have no annotation of it.
    """

    def pieces(self, video: VideoMasks, context: Context) -> Iterator[Piece]:
        height, width = video.size
        path, at = _coco_path(video.split), video.rows_before
        for number, (frame, rows) in enumerate(video.by_frame(), start=video.frames_before + 1):
            image = {
                "id": number,
                "file_name": self._file_name(video, frame),
                "height": height,
                "width": width,
                "video_id": video.video_id,
                "frame_index": frame,
            }
            yield Piece(path, _json(image), section="images")
            for row in rows:
                at += 1
                if row["area"] > 0:
                    yield Piece(path, _json(self._annotation(at, number, row, context)), section="annotations")

    def documents(self, context: Context) -> Iterable[Document]:
        for split in context.splits.names:
            parts = (
                b'{"info":' + _json(ABOUT) + b',"licenses":' + _json(LICENSES) + b',"images":[\n',
                Section("images", b",\n"),
                b'\n],"annotations":[\n',
                Section("annotations", b",\n"),
                b'\n],"categories":' + _json(_categories(context)) + b"}\n",
            )
            yield Document(_coco_path(split), parts)

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"{video.split}/{self._file_name(video, frame_index)}"

    def _file_name(self, video: VideoMasks, frame_index: int) -> str:
        return f"{video.name}/{frame_index:06d}.jpg"

    def _annotation(self, number: int, image: int, row: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {
            "id": number,
            "image_id": image,
            "category_id": context.category(row["category"]) + 1,
            "segmentation": rle.to_coco(row),
            "area": row["area"],
            "bbox": _bbox(row),
            "iscrowd": 0,
            "track_id": row["object_id"],
        }


class YouTubeVisFormat:
    """`SPLIT/instances.json`: an annotation for each object of a video, null where it is not to be seen."""

    def pieces(self, video: VideoMasks, context: Context) -> Iterator[Piece]:
        height, width = video.size
        frames = sorted(set(video.rows.column("frame_index").to_pylist()))
        place = {frame: at for at, frame in enumerate(frames)}
        about = {
            "id": video.number + 1,
            "file_names": [f"{video.name}/{frame:05d}.jpg" for frame in frames],
            "height": height,
            "width": width,
            "length": len(frames),
        }
        path = f"{video.split}/instances.json"
        yield Piece(path, _json(about), section="videos")
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
                "bboxes": [row and _bbox(row) for row in seen],
                "areas": [row and row["area"] for row in seen],
                "height": height,
                "width": width,
                "length": len(frames),
                "iscrowd": 0,
                "track_id": object_id,
            }
            yield Piece(path, _json(annotation), section="annotations")

    def documents(self, context: Context) -> Iterable[Document]:
        for split in context.splits.names:
            parts = (
                b'{"info":' + _json(ABOUT) + b',"licenses":' + _json(LICENSES) + b',"videos":[\n',
                Section("videos", b",\n"),
                b'\n],"annotations":[\n',
                Section("annotations", b",\n"),
                b'\n],"categories":' + _json(_categories(context)) + b"}\n",
            )
            yield Document(f"{split}/instances.json", parts)

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"{video.split}/JPEGImages/{video.name}/{frame_index:05d}.jpg"


def read_coco(data: bytes | str, *, name: str = "COCO JSON") -> pa.Table:
    """Masks of COCO instances. Whose images do not say so is a frame of a video: `VIDEO/000012.jpg`, by its name.

    An object is known by its `track_id`, or the annotation's own id where there is none.
    """
    document = _loads(data, name)
    try:
        categories = _names(document)
        images = {image["id"]: _frame_of(image) for image in document["images"]}
        rows = RowBuilder()
        for annotation in document["annotations"]:
            video_id, frame, size = images[annotation["image_id"]]
            object_id = int(annotation.get("track_id", annotation["id"]))
            counts = to_counts(annotation["segmentation"], size)
            rows.add(video_id, object_id, frame, size, counts, categories.get(annotation.get("category_id")))
        return rows.table()
    except _WRONG as error:
        raise UsageError(f"{name} is not COCO's instances: {_reason(error)}") from error


def read_youtube_vis(data: bytes | str, *, name: str = "YouTube-VIS JSON") -> pa.Table:
    """Masks of YouTube-VIS; a video is known by the folder of its frames, a frame by its file's number."""
    document = _loads(data, name)
    try:
        categories = _names(document)
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
    except _WRONG as error:
        raise UsageError(f"{name} is not YouTube-VIS: {_reason(error)}") from error


def to_counts(segmentation: Any, size: tuple[int, int]) -> str:
    """Compressed counts of any segmentation COCO knows: compressed or plain RLE, or polygons."""
    if isinstance(segmentation, list):
        height, width = size
        mask = np.zeros(rle.check_size((height, width)), np.bool_)
        for ring in segmentation:
            points = np.array(ring, np.float64).reshape(-1, 2)
            if len(points) >= 3:
                mask |= fill([points], (height, width))
        return rle.encode(mask[None])[0]
    if tuple(segmentation["size"]) != size:
        raise UsageError(f"a segmentation of {segmentation['size']} in an image of {list(size)}")
    counts = segmentation["counts"]
    if isinstance(counts, str):
        rle.decompress(counts, size)
        return counts
    runs = np.array(counts, np.int64).reshape(-1)
    height, width = rle.check_size(size)
    if not runs.size or runs.min() < 0 or runs.max() > rle.MAX_PIXELS or int(runs.sum()) != height * width:
        raise UsageError(f"the runs of a segmentation do not cover its {height} x {width} pixels")
    return rle.compress(runs, np.array([runs.size]))[0]


def boxes_of_coco(data: bytes | str, *, name: str = "COCO JSON") -> list[dict[str, Any]]:
    """Each annotation's video_id, object_id, frame_index, category and box x_min, y_min, x_max, y_max."""
    document = _loads(data, name)
    try:
        categories = _names(document)
        images = {image["id"]: _frame_of(image) for image in document["images"]}
        found = []
        for annotation in document["annotations"]:
            video_id, frame, _ = images[annotation["image_id"]]
            x, y, width, height = (float(value) for value in annotation["bbox"])
            found.append(
                {
                    "video_id": video_id,
                    "object_id": int(annotation.get("track_id", annotation["id"])),
                    "frame_index": frame,
                    "category": categories.get(annotation.get("category_id")),
                    "box": (x, y, x + width, y + height),
                }
            )
        return found
    except _WRONG as error:
        raise UsageError(f"{name} is not COCO's instances: {_reason(error)}") from error


_WRONG = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    RecursionError,
    CorpusError,
    pa.ArrowException,
)


def _coco_path(split: str) -> str:
    return f"annotations/instances_{split}.json"


def _categories(context: Context) -> list[dict[str, Any]]:
    return [{"id": at, "name": name, "supercategory": ""} for at, name in enumerate(context.categories, start=1)]


def _bbox(row: Mapping[str, Any]) -> list[int]:
    return [row["x_min"], row["y_min"], row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _loads(data: bytes | str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{name} holds a {type(document).__name__}, not an object with annotations")
    return document


def _names(document: Mapping[str, Any]) -> dict[Any, str]:
    return {one["id"]: str(one["name"]) for one in document.get("categories", ())}


def _frame_of(image: Mapping[str, Any]) -> tuple[str, int, tuple[int, int]]:
    size = rle.check_size((image["height"], image["width"]))
    if "frame_index" in image:
        return str(image["video_id"]), int(image["frame_index"]), size
    return *_frame_of_name(image["file_name"]), size


def _frames_of(video: Mapping[str, Any]) -> tuple[str, list[int], tuple[int, int]]:
    names: Sequence[str] = video["file_names"]
    found = [_frame_of_name(name) for name in names]
    if len({video_id for video_id, _ in found}) > 1:
        raise ValueError(f"the frames of video {video['id']} are in several folders")
    video_id = found[0][0] if found else str(video["id"])
    return video_id, [frame for _, frame in found], rle.check_size((video["height"], video["width"]))


def _frame_of_name(file_name: str) -> tuple[str, int]:
    path = PurePosixPath(file_name)
    if not (path.parent.name and path.stem.isascii() and path.stem.isdigit() and len(path.stem) < 10):
        raise ValueError(f"image {file_name!r} is not named VIDEO/000012.jpg, so its video and frame are unknown")
    return unquote_id(path.parent.name), int(path.stem)


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
