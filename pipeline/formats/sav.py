"""SA-V's JSON: one document a video, masks of every fourth frame, keys and types as Meta publishes them."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import ExportContext, Format, Piece
from pipeline.formats.location import Location, describe
from pipeline.formats.rows import RowBuilder
from pipeline.formats.segments import segment_of
from pipeline.formats.sources import FileMasks, MaskSource, file_of_each_video
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.storage.paths import unquote_id

STRIDE = 4
"""SA-V annotates 6 of 24 frames a second."""

NAME_SUFFIXES = ("_manual", "_auto")
"""Suffixes after the video id in the names of SA-V's files."""


@dataclass(frozen=True, kw_only=True)
class SavVideo:
    """One document: its masks and its other facts."""

    video_id: str
    masks: pa.Table
    """MASK_ROWS; frame_index counts the video's frames, not the annotated ones."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Everything of the document except the masks."""


class SavFormat(Format):
    """`SPLIT/VIDEO_auto.json`, as in SA-V's training set; masklets of a model have the type `auto`.

    Frames and the duration are those of the labelled part of the file, which video_start_s and video_end_s give; these
    keys are absent where the whole file was labelled, as in the published files.
    """

    name = "sav"
    about = "SA-V's JSON, one a video, every fourth frame"
    default_stride = STRIDE
    protocol = "sav"

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        video.check_stride(context.every)
        facts = {key: video.facts[key] for key in ("video_environment",) if video.facts.get(key)}
        data = write_sav(
            video.video_id,
            video.rows,
            frames=video.frame_count,
            fps=video.fps,
            size=video.size,
            stride=context.every,
            facts=facts | segment_of(video.facts) | {"video_split": video.split},
        )
        yield Piece(f"{video.split}/{video.name}_auto.json", data)

    def image_path(self, video: VideoMasks, frame_index: int) -> str:
        return f"JPEGImages_24fps/{video.name}/{frame_index:05d}.jpg"

    def recognizes(self, at: Location) -> bool:
        if at.first_json and PurePosixPath(at.first_json).stem.endswith(NAME_SUFFIXES):
            return True
        return "masklet" in at.json_keys

    def open_masks(self, at: Location) -> MaskSource:
        paths = file_of_each_video((_video_id(at, path), path) for path in at.files(".json"))

        def read_video(video_id: str) -> pa.Table:
            path = paths[video_id]
            return read_sav(at.read(path), name=at.name_of(path)).masks

        return FileMasks(paths, read_video, self.name, self.protocol)


def read_sav(data: bytes | str, *, name: str = "SA-V JSON") -> SavVideo:
    """A document as Meta publishes it, or as `write_sav` makes it."""
    try:
        document = json.loads(data)
        video_id, masklet = str(document["video_id"]), document["masklet"]
        object_ids = [int(one) for one in document["masklet_id"]]
        if not isinstance(masklet, list) or any(len(frame) != len(object_ids) for frame in masklet):
            raise ValueError(f"masklet is not a list of frames of {len(object_ids)} masks each")
        stride = stride_of(int(document["video_frame_count"]), len(masklet))
        rows = RowBuilder()
        for at, frame in enumerate(masklet):
            for object_id, one in zip(object_ids, frame, strict=True):
                if one is None:
                    continue
                height, width = rle.check_size(one["size"])
                rows.add(video_id, object_id, at * stride, (height, width), str(one["counts"]))
        table = rows.table()
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, CorpusError, pa.ArrowException) as error:
        raise UsageError(f"{name} is not SA-V's JSON: {describe(error)}") from error
    return SavVideo(
        video_id=video_id,
        masks=table,
        facts={key: value for key, value in document.items() if key != "masklet"},
    )


def write_sav(
    video_id: str,
    masks: pa.Table,
    *,
    frames: int,
    fps: float,
    size: tuple[int, int],
    stride: int = STRIDE,
    facts: Mapping[str, Any] | None = None,
) -> bytes:
    """The document of one video.

    Args:
        masks: rows of this video with object_id, frame_index, counts; frames that are no multiple of the stride are
            left out, and an object without a row there is written as an empty mask.
        facts: values that masks do not give: video_environment, video_split, masklet_type,
            masklet_edited_frame_count, masklet_stability_score; keys and values as in SA-V.
    """
    facts = facts or {}
    height, width = size
    count = math.ceil(frames / stride)
    empty = rle.compress(np.array([height * width]), np.array([1]))[0]
    object_ids = [int(one) for one in facts.get("masklet_id", ())] or sorted(set(masks.column("object_id").to_pylist()))
    place = {object_id: at for at, object_id in enumerate(object_ids)}
    counts = [[empty] * len(object_ids) for _ in range(count)]
    columns = (masks.column(name).to_pylist() for name in ("object_id", "frame_index", "counts"))
    for object_id, frame, string in zip(*columns, strict=True):
        if frame % stride == 0 and frame // stride < count and object_id in place:
            counts[frame // stride][place[object_id]] = string
    areas = np.array([[rle.area(string) for string in frame] for frame in counts], np.int64).reshape(count, -1)
    seen = [_Seen.of(areas[:, at], height * width) for at in range(len(object_ids))]
    document: dict[str, Any] = {
        "video_id": video_id,
        "video_duration": float(facts.get("video_duration", frames / fps if fps else 0.0)),
        "video_frame_count": float(frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": facts.get("video_environment", "Unknown"),
        "video_split": facts.get("video_split", "train"),
        "masklet": [[{"size": [height, width], "counts": string} for string in frame] for frame in counts],
        "masklet_id": object_ids,
        "masklet_size_rel": [one.size_rel for one in seen],
        "masklet_size_abs": [one.size_abs for one in seen],
        "masklet_size_bucket": [size_bucket(one.size_abs) for one in seen],
        "masklet_visibility_changes": [one.changes for one in seen],
        "masklet_first_appeared_frame": [one.first for one in seen],
        "masklet_frame_count": [count] * len(object_ids),
        "masklet_edited_frame_count": facts.get("masklet_edited_frame_count", [0] * len(object_ids)),
        "masklet_type": facts.get("masklet_type", ["auto"] * len(object_ids)),
        "masklet_stability_score": facts.get("masklet_stability_score", [None] * len(object_ids)),
        "masklet_num": len(object_ids),
        **{f"video_{name}": facts[name] for name in ("start_s", "end_s") if name in facts},
    }
    return json.dumps(document).encode()


def stride_of(frames: int, annotated: int) -> int:
    """Stride of the annotated frames: four if that fits the counts, else the smallest that does."""
    if annotated < 1:
        return STRIDE
    candidates = [STRIDE, *range(max(1, frames // annotated), frames // annotated + 2)]
    fitting = [stride for stride in candidates if math.ceil(frames / stride) == annotated]
    if not fitting:
        raise ValueError(f"{annotated} annotated frames of {frames} are not every n-th frame for any n")
    return int(fitting[0])


def size_bucket(area: float) -> str:
    """SA-V's name for a mean visible area in pixels."""
    return "small" if area < 32**2 else "medium" if area < 96**2 else "large"


@dataclass(frozen=True)
class _Seen:
    """SA-V's statistics of the areas of a masklet over the annotated frames."""

    size_abs: float
    size_rel: float
    changes: int
    first: float

    @classmethod
    def of(cls, areas: np.ndarray, pixels: int) -> "_Seen":
        visible = areas > 0
        if not visible.any():
            return cls(0.0, 0.0, 0, 0.0)
        first = int(np.argmax(visible))
        mean = float(areas[visible].mean())
        changes = int(np.count_nonzero(visible[first + 1 :] != visible[first:-1]))
        return cls(round(mean, 10), round(mean / pixels, 10), changes, float(first))


def _video_id(at: Location, path: str) -> str:
    """The video id in the file's name, as Meta names files, else in the document."""
    stem = PurePosixPath(path).stem
    for suffix in NAME_SUFFIXES:
        if stem.endswith(suffix):
            return unquote_id(stem.removesuffix(suffix))
    try:
        return str(at.load_json(path)["video_id"])
    except (TypeError, KeyError) as error:
        raise UsageError(f"{at.name_of(path)} is not SA-V's JSON: video_id is missing") from error
