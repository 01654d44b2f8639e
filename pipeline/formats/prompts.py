"""Prompts from other tools' annotations: a flat prompt table, as `--prompts` and `jobs.manifest` accept it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from pipeline.errors import RleError, UsageError
from pipeline.formats.frame_sizes import Size
from pipeline.formats.location import Location
from pipeline.formats.rows import by_object
from pipeline.formats.sources import MaskSource
from pipeline.masks import rle

Frames = Literal["first", "all"]
PromptWith = Literal["mask", "box"]
Box = tuple[float, float, float, float]
PromptRow = dict[str, Any]
"""One row of PROMPTS."""

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
        ("until_frame", pa.int64()),
    ]
)
"""A row per video, object and frame: a box in pixels, or a mask; and where the object ends, if the annotations say so.
"""


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """Which annotations become prompts."""

    frames: Frames = "first"
    """`first`: the first frame where an object is visible. `all`: every annotated frame, as refinements."""
    size_of: Callable[[str], Size | None] | None = None
    """Height and width of a video by its id, where neither the annotations nor files beside them give it."""
    prompt: PromptWith = "mask"
    """What to prompt with where an annotation has a mask: that, or its box."""


def mask_prompt(
    video_id: str, object_id: int, frame_index: int, size: tuple[int, int], counts: str, category: str | None
) -> PromptRow:
    """The row of an RLE mask of [height, width]."""
    return {
        "video_id": video_id,
        "object_id": object_id,
        "frame_index": frame_index,
        "mask_height": size[0],
        "mask_width": size[1],
        "mask_counts": counts,
        "category": category,
    }


def box_prompt(video_id: str, object_id: int, frame_index: int, box: Box, category: str | None) -> PromptRow:
    """The row of a box x_min, y_min, x_max, y_max in pixels."""
    sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
    return {"video_id": video_id, "object_id": object_id, "frame_index": frame_index, **sides, "category": category}


def with_ends(
    rows: Iterable[PromptRow], gone: Iterable[tuple[str, int, int]], request: PromptRequest
) -> Iterator[PromptRow]:
    """The rows with `until_frame` where their objects end.

    With `first`, an object that comes back later does not end: its later prompts are left out.

    Args:
        rows: prompts of all objects.
        gone: video id, object id and frame from which on an object is annotated as not visible, until its next prompt.
        request: which annotations become prompts.
    """
    prompts: dict[tuple[str, int], list[PromptRow]] = {}
    for row in rows:
        prompts.setdefault((row["video_id"], row["object_id"]), []).append(row)
    ends: dict[tuple[str, int], list[int]] = {}
    for video_id, object_id, frame in gone:
        ends.setdefault((video_id, object_id), []).append(frame)
    for key, own in prompts.items():
        own.sort(key=lambda row: row["frame_index"])
        following = [*(row["frame_index"] for row in own[1:]), None]
        if request.frames == "first":
            following = [None] * len(own)
        for row, after in zip(own, following, strict=True):
            since = own[-1]["frame_index"] if request.frames == "first" else row["frame_index"]
            found = [frame for frame in ends.get(key, ()) if since < frame and (after is None or frame < after)]
            yield row | {"until_frame": min(found)} if found else row


def prompts_of_masks(source: MaskSource, request: PromptRequest) -> Iterator[PromptRow]:
    """Mask prompts of all objects where they are visible.

    Raises:
        UsageError: A video or a mask cannot be read.
    """
    for video_id in source.row_counts():
        tables, problems = source.read([video_id])
        if problems:
            raise UsageError(str(problems[0]))
        for object_id, table in by_object(tables[video_id]).items() if video_id in tables else ():
            columns = (table.column(name).to_pylist() for name in ("frame_index", "height", "width", "counts"))
            categories = table.column("category").to_pylist()
            for frame, height, width, counts, category in zip(*columns, categories, strict=True):
                try:
                    area = int(rle.decompress(counts, (height, width))[1::2].sum())
                except RleError as error:
                    raise UsageError(f"video {video_id!r}, object {object_id}, frame {frame}: {error}") from error
                if not area:
                    continue
                yield mask_prompt(video_id, object_id, frame, (height, width), counts, category)
                if request.frames == "first":
                    break


def prompt_table(rows: Iterable[PromptRow], request: PromptRequest, at: Location) -> pa.Table:
    """The requested rows, sorted by video, object and frame.

    Raises:
        UsageError: There are none, or a number is out of range.
    """
    if request.prompt == "box":
        rows = map(_as_box, rows)
    ordered = sorted(rows, key=lambda row: (row["video_id"], row["object_id"], row["frame_index"]))
    if request.frames == "first":
        kept: dict[tuple[str, int], PromptRow] = {}
        for row in ordered:
            kept.setdefault((row["video_id"], row["object_id"]), row)
        ordered = list(kept.values())
    if not ordered:
        raise UsageError(f"{at} annotates no object, so there is nothing to prompt with")
    try:
        return pa.Table.from_pylist(ordered, schema=PROMPTS)
    except (pa.ArrowException, OverflowError) as error:
        raise UsageError(f"{at} holds a number that is out of range: {error}") from error


def _as_box(row: PromptRow) -> PromptRow:
    """A row with the box of its mask instead; without a mask the row itself."""
    if (counts := row.get("mask_counts")) is None:
        return row
    box = rle.bbox(counts, (row["mask_height"], row["mask_width"]))
    sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), box or (None,) * 4, strict=True))
    return {name: value for name, value in row.items() if not name.startswith("mask_")} | sides
