"""COCO instances: an image for each frame, an annotation for each visible object in it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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
from pipeline.formats.prompts import PromptRequest, PromptRow, box_prompt, mask_prompt
from pipeline.formats.rows import RowBuilder
from pipeline.formats.segments import segment_of
from pipeline.formats.sources import MaskSource
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.masks.segmentation import to_counts


class CocoFormat(Format):
    """`annotations/instances_SPLIT.json`. Numbers of images and annotations are unique across all splits.

    An annotation's `track_id` is the object id; an image has `video_id` and `frame_index`. A frame has no annotation of
    an object that is not visible in it. `frame_index` counts within the segment of the image's start_s and end_s, if it
    has them. Read back, masks become prompts, or boxes.
    """

    name = "coco"
    about = "COCO instances, an image for each frame"

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        height, width = video.size
        segment = segment_of(video.facts)
        path, at = _path(video.split), video.rows_before
        for number, (frame, rows) in enumerate(video.by_frame(), start=video.frames_before + 1):
            image = {
                "id": number,
                "file_name": _file_name(video, frame),
                "height": height,
                "width": width,
                "video_id": video.video_id,
                "frame_index": frame,
                **segment,
            }
            yield Piece(path, to_json(image), section="images")
            for row in rows:
                at += 1
                if row["area"] > 0:
                    yield Piece(path, to_json(_annotation(at, number, row, context)), section="annotations")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        return [split_document(_path(split), context, "images", "annotations") for split in context.filled_splits]

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"{video.split}/{_file_name(video, frame_index)}"

    def recognizes(self, at: Location) -> bool:
        return at.json_keys >= {"annotations", "images"}

    def open_masks(self, at: Location) -> MaskSource:
        return open_documents(at, read_coco, self.name)

    def prompts(self, at: Location, request: PromptRequest) -> Iterator[PromptRow]:
        for path in at.files(".json"):
            yield from prompts_of_coco(at.read(path), name=at.name_of(path), masks=request.prompt == "mask")


def read_coco(data: bytes | str, *, name: str = "COCO JSON") -> pa.Table:
    """MASK_ROWS of a COCO document.

    The frame of an image is its `video_id` and `frame_index`, else its file name, `VIDEO/000012.jpg`. The object of an
    annotation is its `track_id`, else its own id.

    Raises:
        UsageError: The document is malformed.
    """
    document = load_document(data, name)
    try:
        categories = category_names(document)
        images = {image["id"]: _frame_of(image) for image in document["images"]}
        rows = RowBuilder()
        for annotation in document["annotations"]:
            video_id, frame, size = images[annotation["image_id"]]
            counts = to_counts(annotation["segmentation"], size)
            category = categories.get(annotation.get("category_id"))
            rows.add(video_id, _object_id(annotation), frame, size, counts, category)
        return rows.table()
    except MALFORMED as error:
        raise UsageError(f"{name} is not COCO's instances: {describe(error)}") from error


def prompts_of_coco(data: bytes | str, *, name: str = "COCO JSON", masks: bool = True) -> list[PromptRow]:
    """The mask of each annotation of a COCO document as a prompt, or its box where it has none or `masks` is false.

    Raises:
        UsageError: The document is malformed.
    """
    document = load_document(data, name)
    try:
        categories = category_names(document)
        images = {image["id"]: _frame_of(image) for image in document["images"]}
        found = []
        for annotation in document["annotations"]:
            video_id, frame, size = images[annotation["image_id"]]
            category = categories.get(annotation.get("category_id"))
            about = (video_id, _object_id(annotation), frame)
            if masks and annotation.get("segmentation"):
                found.append(mask_prompt(*about, size, to_counts(annotation["segmentation"], size), category))
                continue
            x, y, width, height = (float(value) for value in annotation["bbox"])
            found.append(box_prompt(*about, (x, y, x + width, y + height), category))
        return found
    except MALFORMED as error:
        raise UsageError(f"{name} is not COCO's instances: {describe(error)}") from error


def _path(split: str) -> str:
    return f"annotations/instances_{split}.json"


def _file_name(video: VideoMasks, frame_index: int) -> str:
    return f"{video.name}/{frame_index:06d}.jpg"


def _annotation(number: int, image: int, row: Mapping[str, Any], context: ExportContext) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": context.category(row["category"]) + 1,
        "segmentation": rle.to_coco(row),
        "area": row["area"],
        "bbox": bbox(row),
        "iscrowd": 0,
        "track_id": row["object_id"],
    }


def _frame_of(image: Mapping[str, Any]) -> tuple[str, int, tuple[int, int]]:
    size = rle.check_size((image["height"], image["width"]))
    if "frame_index" in image:
        return str(image["video_id"]), int(image["frame_index"]), size
    return *frame_of_name(image["file_name"]), size


def _object_id(annotation: Mapping[str, Any]) -> int:
    return int(annotation.get("track_id", annotation["id"]))
