"""COCO JSON: results of a detector, or a document with images and annotations, also with videos as CocoVID has them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.detection.sources.classes import Categories
from pipeline.detection.sources.pictures import PictureNames, VideoIds
from pipeline.detection.sources.reading import Size, Videos
from pipeline.detection.sources.rows import BATCH_ROWS, Rows
from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX
from pipeline.masks import rle
from pipeline.masks.segmentation import to_counts

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, CorpusError, pa.ArrowException)
"""Errors that reading a malformed record can raise."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that results refer to."""

    video_id: str
    frame: int
    size: Size | None = None


class Pictures:
    """The pictures by their id, and those that no detection has named yet."""

    def __init__(self, names: PictureNames, ids: VideoIds) -> None:
        self._names, self._ids = names, ids
        self._by_id: dict[object, Picture] = {}
        self._unseen: dict[object, Picture] = {}
        self.listed = False
        """Whether a document has listed the pictures."""

    def read(self, document: Mapping[str, Any], name: str) -> None:
        """Take the pictures of a document with `images`.

        Raises:
            ManifestError: One has no video or frame.
        """
        self.listed = True
        try:
            videos = {one["id"]: one for one in document.get("videos") or ()}
        except (KeyError, TypeError):
            raise ManifestError(f"{name}: each of its videos must be an object with id and name") from None
        for row, image in enumerate(list_in(document, "images", name)):
            try:
                self._by_id[image["id"]] = self._unseen[image["id"]] = self._picture(image, videos)
            except MALFORMED as error:
                why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise ManifestError(f"{name}, images[{row}]: {why}") from None

    def of(self, record: Mapping[str, Any]) -> Picture:
        """The picture of a detection.

        Raises:
            ManifestError: Its id is unknown, or its name tells no video and frame.
        """
        key = record["image_id"]
        if (found := self._by_id.get(key)) is not None:
            self._unseen.pop(key, None)
            return found
        if self.listed:
            raise ManifestError(f"no image has this id; there are {len(self._by_id)}")
        name = record.get("file_name", key)
        if not isinstance(name, str) or name.isdecimal():
            raise ManifestError("a number tells no video and frame; --coco-images FILE names the pictures")
        self._by_id[key] = found = self._picture({"file_name": name}, {})
        return found

    def unseen(self) -> Iterator[Picture]:
        """The pictures without a detection."""
        yield from self._unseen.values()

    def _picture(self, image: Mapping[str, Any], videos: Mapping[object, Mapping[str, Any]]) -> Picture:
        size = (int(image["height"]), int(image["width"])) if image.get("height") and image.get("width") else None
        frame = image.get("frame_id", image.get("frame_index"))
        if frame is not None and not 0 <= int(frame) <= MAX_FRAME_INDEX:
            raise ManifestError(f"the frame is {frame}; allowed is 0 to {MAX_FRAME_INDEX}")
        if isinstance(image.get("video_id"), str) and frame is not None:  # as jobs.export writes it
            return Picture(video_id=self._ids.of(image["video_id"]), frame=int(frame), size=size)
        if (video := videos.get(image.get("video_id"))) is not None and frame is not None:
            name = str(video.get("name", video.get("file_name")))
            return Picture(video_id=self._ids.of(name), frame=int(frame) - self._names.first_frame, size=size)
        name, index = self._names.frame(str(image["file_name"]))
        return Picture(video_id=self._ids.of(name), frame=index, size=size)


def is_results(document: object) -> bool:
    """Whether a JSON document is a list of COCO results."""
    return (
        isinstance(document, list)
        and bool(document)
        and isinstance(document[0], dict)
        and "image_id" in document[0]
        and ("bbox" in document[0] or "segmentation" in document[0])
    )


def load_json(data: bytes, name: str) -> Any:
    """The document in a JSON file.

    Raises:
        ManifestError: It is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{name} is not JSON: {error}") from None


def category_names(document: Mapping[str, Any], name: str) -> dict[int, str]:
    """Names of categories by number.

    Raises:
        ManifestError: One has no id or name.
    """
    try:
        return {int(one["id"]): str(one["name"]) for one in document.get("categories") or ()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ManifestError(f"{name}: each of its categories must be an object with id and name") from None


def coco_rows(
    records: list[Any], pictures: Pictures, categories: Categories, videos: Videos, *, name: str
) -> Iterator[Rows]:
    """The detections of a list of results or annotations; a picture without any is a look that saw nothing."""
    rows = Rows()
    for row, record in enumerate(records):
        if not isinstance(record, dict):
            rows.refuse((None, row), "", record, "must be an object with image_id, category_id, bbox and score")
            continue
        _add(rows, row, record, pictures, categories, videos)
        if len(rows) >= BATCH_ROWS:
            yield rows
            rows = Rows()
    for picture in pictures.unseen():
        rows.add(picture.video_id, picture.frame, (name, len(records)))
    yield rows


def _add(
    rows: Rows, row: int, record: dict[str, Any], pictures: Pictures, categories: Categories, videos: Videos
) -> None:
    column, video_id = "image_id", None
    try:
        picture = pictures.of(record)
        video_id = picture.video_id
        column = "category_id" if "category_id" in record else "category_name"
        category = categories.of(record.get(column))
        column = "score"
        score = None if record.get("score") is None else _number(record["score"])
        column = "bbox"
        box = _corners(record["bbox"]) if record.get("bbox") is not None else None
        column = "segmentation"
        mask = _mask(record.get("segmentation"), picture, videos) if record.get("segmentation") else None
        column = "track_id" if "track_id" in record else "object_id"
        track_id = _identity(record)
        if box is None and mask is None:
            column = "bbox"
            raise ManifestError("missing; a detection needs bbox or segmentation")
    except MALFORMED as error:
        why = "missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
        rows.refuse((None, row), column, record.get(column), why, video_id=video_id)
        return
    rows.add(
        picture.video_id,
        picture.frame,
        (None, row),
        box=box,
        mask=mask,
        category=category,
        score=score,
        track_id=track_id,
    )


def _corners(bbox: Any) -> tuple[float, float, float, float]:
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ManifestError("must be a list of four numbers: x, y, width, height")
    x, y, width, height = map(_number, bbox)
    return x, y, x + width, y + height


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ManifestError(f"must be a number, not {clip(value)}")
    return float(value)


def _mask(segmentation: Any, picture: Picture, videos: Videos) -> tuple[Size, str] | None:
    """Size and counts; None for a mask without a pixel, whose box is used."""
    size = picture.size
    if isinstance(segmentation, dict):
        size = size or rle.check_size(segmentation["size"])
    else:
        size = size or videos.size_of(picture.video_id)
    if size is None:
        raise ManifestError("a polygon needs the size of its picture: height and width in images, or --size")
    counts = to_counts(segmentation, size)
    return (size, counts) if rle.area(counts) else None


def _identity(record: Mapping[str, Any]) -> str | None:
    if record.get("track_id") is not None and record.get("object_id") is not None:
        raise ManifestError("track_id and object_id are given, and both may be the identity; remove one")
    value = record.get("track_id", record.get("object_id"))
    if value is None or value == "" or (isinstance(value, int | float) and value < 0):
        return None
    if isinstance(value, float) and not value.is_integer():
        raise ManifestError("must be a whole number, or text")
    return str(int(value)) if isinstance(value, float) else str(value)


def list_in(document: Mapping[str, Any], key: str, name: str) -> list[Any]:
    """A list of a document.

    Raises:
        ManifestError: There is none.
    """
    found = document.get(key)
    if not isinstance(found, list):
        raise ManifestError(f"{name} has no list {key}; it has {clip(list(document))}")
    return found
