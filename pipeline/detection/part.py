"""The detections of one video as a committed file: Parquet rows, and facts of the video in its footer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.detection.table import SCHEMA
from pipeline.storage.format_version import FORMAT, check_format

FORMAT_METADATA = b"sam2-corpus:format"
VIDEO_METADATA = b"sam2-corpus:detections"


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What was detected in one frame."""

    time_s: float
    boxes: npt.NDArray[np.float32]
    """(n, 4)."""
    scores: npt.NDArray[np.float32]
    """(n,)."""
    categories: Sequence[str | None]
    masks: Sequence[str] | None
    """COCO RLE counts."""


class DetectionRows:
    """Collects the looks of a video in their order; a look without detections is a row without box and mask."""

    def __init__(self, video_id: str, *, height: int, width: int) -> None:
        self.looks = self.detections = 0
        self._video_id, self._size = video_id, [height, width]
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names if name != "video_id"}

    def add(self, look: Look) -> None:
        """Add the rows of one look."""
        count = len(look.scores)
        self.looks += 1
        self.detections += count
        columns = self._columns
        rows = max(1, count)
        columns["frame_index"] += [None] * rows
        columns["time_s"] += [look.time_s] * rows
        if not count:
            for name in ("box", "mask", "category", "score"):
                columns[name].append(None)
            return
        columns["box"] += [dict(zip(SIDES, box, strict=True)) for box in look.boxes.tolist()]
        columns["category"] += look.categories
        columns["score"] += look.scores.tolist()
        masks: Sequence[str | None] = look.masks or [None] * count
        columns["mask"] += [None if counts is None else {"size": self._size, "counts": counts} for counts in masks]

    def to_parquet(self, facts: Mapping[str, Any]) -> bytes:
        """The part; `facts` of the video, its settings and its weights go into the footer."""
        columns = {"video_id": pa.repeat(pa.scalar(self._video_id), len(self._columns["time_s"])), **self._columns}
        table = pa.table(columns, schema=SCHEMA)
        held = {**facts, "video_id": self._video_id, "looks": self.looks, "detections": self.detections}
        metadata = {FORMAT_METADATA: str(FORMAT).encode(), VIDEO_METADATA: json.dumps(held).encode()}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        return bytes(sink.getvalue())


SIDES = ("x_min", "y_min", "x_max", "y_max")


def read_detection_part(data: bytes) -> pa.Table:
    """The rows of a part.

    Raises:
        ValueError: It is no part of detections, or a damaged one.
        OSError: A page of it is damaged.
    """
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        held = file.metadata.metadata or {}
        check_format(held.get(FORMAT_METADATA), what="the part of detections")
        if VIDEO_METADATA not in held:
            raise ValueError("a Parquet file, but no part of detections")
        return file.read().replace_schema_metadata(None)
