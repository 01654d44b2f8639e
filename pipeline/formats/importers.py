"""Prompts from what others annotated: flat prompt tables, as `--prompts` and `jobs.manifest` take them.

Each function takes a path or fsspec URL, and by default gives the first frame where each object is to be seen;
`frames="all"` gives every annotated frame, as refinements.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import RleError, UsageError
from pipeline.formats import cvat, yolo
from pipeline.formats.coco import boxes_of_coco
from pipeline.formats.label_studio import read_label_studio
from pipeline.formats.opening import Kind, files, locate, open_masks, yolo_classes, yolo_frames
from pipeline.formats.rows import by_object
from pipeline.masks import rle
from pipeline.storage import Storage
from pipeline.storage.paths import unquote_id

PromptKind = Literal["mask", "box"]
Frames = Literal["first", "all"]

PROMPTS = pa.schema(
    [
        ("video_id", pa.string()),
        ("object_id", pa.int64()),
        ("frame_index", pa.int64()),
        ("x_min", pa.float32()),
        ("y_min", pa.float32()),
        ("x_max", pa.float32()),
        ("y_max", pa.float32()),
        ("mask_height", pa.int32()),
        ("mask_width", pa.int32()),
        ("mask_counts", pa.string()),
        ("category", pa.string()),
    ]
)
"""A row per video, object and frame: a box in pixels, or a mask."""

Box = tuple[float, float, float, float]


def prompts_from_sav(
    uri: str, *, prompt: PromptKind = "mask", frames: Frames = "first", storage: Storage | None = None
) -> pa.Table:
    """SA-V's JSON, a document or a folder of them; an object's empty masks are no prompts."""
    return _from_masks(uri, "sav", prompt, frames, storage)


def prompts_from_davis(
    uri: str, *, prompt: PromptKind = "mask", frames: Frames = "first", storage: Storage | None = None
) -> pa.Table:
    """Folders of PNGs, DAVIS's palette images or SA-V's one an object."""
    return _from_masks(uri, "png", prompt, frames, storage)


def prompts_from_coco(
    uri: str, *, prompt: PromptKind = "box", frames: Frames = "first", storage: Storage | None = None
) -> pa.Table:
    """COCO instances. An image is a frame: as its `video_id` and `frame_index` say, or its name, VIDEO/000012.jpg."""
    if prompt == "mask":
        return _from_masks(uri, "coco", prompt, frames, storage)
    store, path = locate(uri, storage)
    found = (one for name in files(store, path, ".json") for one in boxes_of_coco(store.read(name), name=name))
    return _table((_box_row(**one) for one in found), frames)


def prompts_from_yolo(
    uri: str,
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    prompt: PromptKind = "box",
    frames: Frames = "first",
    storage: Storage | None = None,
) -> pa.Table:
    """YOLO's labels, boxes or polygons, in files named VIDEO_000012.txt.

    Without `tracks_SPLIT.csv`, which our own export writes, each line of a file is an object of its own.

    Args:
        sizes: height and width of each video, which the labels do not say.
    """
    store, path = locate(uri, storage)
    classes = yolo_classes(store, path)
    rows = []
    for name, frame in sorted(yolo_frames(store, path).items()):
        size = frame.size or (sizes or {}).get(frame.video_id)
        if size is None:
            raise UsageError(f"{name}: the size of video {frame.video_id!r} is unknown; YOLO's labels do not say it")
        lines = yolo.read_yolo(store.read(name).decode(errors="replace"), name=store.uri_of(name))
        if frame.object_ids is not None and len(frame.object_ids) != len(lines):
            raise UsageError(f"{store.uri_of(name)} has {len(lines)} lines for {len(frame.object_ids)} objects")
        for object_id, line in zip(frame.object_ids or range(len(lines)), lines, strict=False):
            category = classes.get(line.kind)
            if prompt == "mask":
                counts = line.counts(size)
                if rle.area(counts):
                    rows.append(_mask_row(frame.video_id, object_id, frame.frame_index, size, counts, category))
                continue
            box = line.pixels(size)
            rows.append(_box_row(frame.video_id, object_id, frame.frame_index, box, category))
    return _table(rows, frames)


def prompts_from_label_studio(
    uri: str,
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    frames: Frames = "first",
    storage: Storage | None = None,
) -> pa.Table:
    """Label Studio's video tasks: boxes at keyframes.

    Args:
        sizes: height and width of each video, where the file does not say.
    """
    store, path = locate(uri, storage)
    rows = []
    for name in files(store, path, ".json"):
        for one in read_label_studio(store.read(name), name=store.uri_of(name)):
            size = one.size or (sizes or {}).get(one.video_id)
            if size is None:
                raise UsageError(f"{name}: the size of video {one.video_id!r} is unknown, and boxes are in percent")
            x_min, y_min, x_max, y_max = one.box
            box = (x_min * size[1], y_min * size[0], x_max * size[1], y_max * size[0])
            rows.append(_box_row(one.video_id, one.object_id, one.frame_index, box, one.category))
    return _table(rows, frames)


def prompts_from_cvat(
    uri: str, *, prompt: PromptKind = "mask", frames: Frames = "first", storage: Storage | None = None
) -> pa.Table:
    """CVAT for video 1.1: keyframes of tracks. A video is known by its file's name; a box stays a box."""
    store, path = locate(uri, storage)
    rows = []
    for name in files(store, path, ".xml"):
        video = cvat.read_cvat(store.read(name), name=store.uri_of(name))
        video_id = unquote_id(name.rpartition("/")[2].removesuffix(".xml"))
        for shape in video.shapes:
            if shape.outside or not shape.keyframe:
                continue
            if shape.box:
                rows.append(_box_row(video_id, shape.object_id, shape.frame_index, shape.box, shape.category))
                continue
            counts = shape.mask(video.size)
            if not rle.area(counts):
                continue
            row = _mask_row(video_id, shape.object_id, shape.frame_index, video.size, counts, shape.category)
            rows.append(row if prompt == "mask" else _boxed(row))
    return _table(rows, frames)


def _from_masks(uri: str, kind: Kind, prompt: PromptKind, frames: Frames, storage: Storage | None) -> pa.Table:
    source = open_masks(uri, kind=kind, storage=storage)
    rows = []
    for video_id in source.rows():
        tables, problems = source.read([video_id])
        if problems:
            raise UsageError(str(problems[0]))
        for object_id, table in by_object(tables.get(video_id, PROMPTS.empty_table())).items():
            wanted = ("frame_index", "height", "width", "counts", "category")
            columns = (table.column(name).to_pylist() for name in wanted)
            for frame, height, width, counts, category in zip(*columns, strict=True):
                try:
                    area = int(rle.decompress(counts, (height, width))[1::2].sum())
                except RleError as error:
                    raise UsageError(f"video {video_id!r}, object {object_id}, frame {frame}: {error}") from error
                if not area:
                    continue
                row = _mask_row(video_id, object_id, frame, (height, width), counts, category)
                rows.append(row if prompt == "mask" else _boxed(row))
                if frames == "first":
                    break
    return _table(rows, frames)


def _mask_row(
    video_id: str, object_id: int, frame_index: int, size: tuple[int, int], counts: str, category: str | None
) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "object_id": object_id,
        "frame_index": frame_index,
        "mask_height": size[0],
        "mask_width": size[1],
        "mask_counts": counts,
        "category": category,
    }


def _box_row(video_id: str, object_id: int, frame_index: int, box: Box, category: str | None) -> dict[str, Any]:
    sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
    return {"video_id": video_id, "object_id": object_id, "frame_index": frame_index, **sides, "category": category}


def _boxed(row: Mapping[str, Any]) -> dict[str, Any]:
    box = rle.bbox(row["mask_counts"], (row["mask_height"], row["mask_width"]))
    assert box is not None, "an empty mask is no prompt"
    left, top, right, bottom = (float(side) for side in box)
    return _box_row(row["video_id"], row["object_id"], row["frame_index"], (left, top, right, bottom), row["category"])


def _table(rows: Iterable[Mapping[str, Any]], frames: Frames) -> pa.Table:
    ordered = sorted(rows, key=lambda row: (row["video_id"], row["object_id"], row["frame_index"]))
    if frames == "first":
        kept: dict[tuple[str, int], Mapping[str, Any]] = {}
        for row in ordered:
            kept.setdefault((row["video_id"], row["object_id"]), row)
        ordered = list(kept.values())
    if not ordered:
        raise UsageError("no object is annotated, so there is nothing to prompt with")
    return pa.Table.from_pylist([dict(row) for row in ordered], schema=PROMPTS)
