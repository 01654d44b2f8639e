"""Tables without the columns of a video: one file a picture, a column of picture names, or polygons beside boxes."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.detection.sources.columns import PICTURES, plain_columns, text_structs
from pipeline.detection.sources.pictures import PictureNames, VideoIds
from pipeline.detection.sources.reading import Videos
from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.kinds import Mask
from pipeline.masks import rle
from pipeline.masks.outlines import fill_through_centres

SEGMENTS = "segments"
"""A polygon as Ultralytics' results have it: a struct of the lists x and y."""


def names_videos(columns: Collection[str]) -> bool:
    """Whether the columns tell video and frame of every row."""
    return "video_id" in columns and ("frame_index" in columns or "time_s" in columns)


def with_videos(raw: pa.RecordBatch, file: str | None, names: PictureNames, ids: VideoIds) -> pa.RecordBatch:
    """The batch with video_id and frame_index, from its column of picture names or from the name of its file.

    Raises:
        ManifestError: Several columns may hold the names of pictures, or a name tells no video and frame.
    """
    columns = plain_columns(raw)
    if names_videos(columns):
        return raw
    found = [name for name in PICTURES if name in columns and pa.types.is_string(columns[name].type)]
    if len(found) > 1:
        raise ManifestError(f"the columns {' and '.join(found)} may both name the pictures; remove one")
    if found:
        pictures = columns[found[0]]
    elif "video_id" in columns or file is None:
        return raw
    else:
        pictures = pa.array([file] * len(raw), pa.string())
    coded = pictures.dictionary_encode()
    if coded.null_count:
        raise ManifestError(f"column {found[0]} has {coded.null_count} rows without a value")
    known = [names.frame(name) for name in coded.dictionary.to_pylist()]
    videos = pa.array([ids.of(video) for video, _ in known], pa.string())
    frames = pa.array([frame for _, frame in known], pa.int64())
    own = {} if "video_id" in columns else {"video_id": videos.take(coded.indices)}
    when = {} if "time_s" in columns or "frame_index" in columns else {"frame_index": frames.take(coded.indices)}
    return pa.RecordBatch.from_pydict({**columns, **own, **when})


def with_masks(raw: pa.RecordBatch, videos: Videos, refuse: Callable[[int, str, object, str], None]) -> pa.RecordBatch:
    """The batch with its polygons as the column mask; `refuse` gets row, column, value and rule of what is none."""
    columns = plain_columns(raw)
    if SEGMENTS not in columns or "mask" in columns or "video_id" not in columns:
        return raw
    found = text_structs(columns[SEGMENTS], column=SEGMENTS).to_pylist()
    masks: list[dict[str, Any] | None] = []
    for row, (video_id, segment) in enumerate(zip(columns["video_id"].to_pylist(), found, strict=True)):
        mask = None
        if segment is not None and videos.know(video_id):
            try:
                mask = _mask(segment, video_id, videos)
            except (CorpusError, KeyError, TypeError, ValueError) as error:
                refuse(row, SEGMENTS, segment, str(error))
        masks.append(mask)
    return raw.append_column("mask", pa.array(masks, Mask.type))


def _mask(segment: dict[str, Any], video_id: str, videos: Videos) -> dict[str, Any] | None:
    """The mask of a polygon through pixel centres; None for fewer than three points, whose box is used."""
    ring = np.column_stack((np.array(segment["x"], np.float64), np.array(segment["y"], np.float64)))
    if len(ring) < 3:
        return None
    if (size := videos.size_of(video_id)) is None:
        raise ManifestError("the size of the video is unknown; give --size, or a video that can be opened")
    if not np.isfinite(ring).all():
        raise ManifestError("must be finite numbers")
    return {"size": list(size), "counts": rle.encode(fill_through_centres(ring, size)[None])[0]}


def batch_of(records: list[Any]) -> pa.RecordBatch:
    """Records of a JSON document as a batch.

    Raises:
        ManifestError: They are no objects, or have values of several types under one name.
    """
    if bad := [row for row, record in enumerate(records) if not isinstance(record, dict)]:
        raise ManifestError(f"row {bad[0]}, value {clip(records[bad[0]])}: must be an object")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([record.get(name) for record in records])
        except (pa.ArrowException, OverflowError) as error:
            raise ManifestError(f"column {name}: its values are of several types, or too large: {error}") from None
    return pa.RecordBatch.from_pydict(columns)


def look_at(file: str, names: PictureNames, ids: VideoIds) -> pa.RecordBatch:
    """A look that saw nothing, on the frame that a file is named after."""
    video, frame = names.frame(file)
    sides = {side: pa.nulls(1, pa.float64()) for side in ("x_min", "y_min", "x_max", "y_max")}
    return pa.RecordBatch.from_pydict({"video_id": [ids.of(video)], "frame_index": [frame], **sides})
