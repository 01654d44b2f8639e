"""Boxes of any detector as prompts: sampled in time, and linked into objects."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import UsageError

Boxes = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Refine = Literal["never", "lost", "every"]
"""Which boxes of an object become prompts: the first, also those after looks that missed it, or one per interval."""

SIDES = ("x_min", "y_min", "x_max", "y_max")
MAX_MISSED = 3
"""Sampled frames without a match after which an object ends: detectors miss an object now and then."""


@dataclass(frozen=True, kw_only=True)
class Every:
    """Interval between the frames whose detections become prompts."""

    seconds: float | None = None
    frames: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Every":
        """`1s`, `0.5s` or `30f` (frames)."""
        if (match := re.fullmatch(r"(\d*\.?\d+)s", text)) and float(match[1]) > 0:
            return cls(seconds=float(match[1]))
        if match := re.fullmatch(r"([1-9]\d*)f", text):
            return cls(frames=int(match[1]))
        raise UsageError(f"interval {text!r} is not understood; allowed are seconds, 0.5s, and frames, 30f")


def detections_to_prompts(
    detections: pa.Table,
    *,
    every: Every,
    match_iou: float,
    min_score: float = -math.inf,
    confirm_score: float | None = None,
    refine: Refine = "every",
    fps: float | None = None,
) -> pa.Table:
    """A flat prompt table: of each interval the first frame with detections, and of its boxes those that are confirmed.

    A box whose IoU with an object's last box is at least `match_iou`, and which has its category, refines that object;
    other boxes are new objects. An object is confirmed by a second box, or by one with a high score. Boxes without
    extent are left out.

    Args:
        detections: one row a box: video_id, frame_index or time_s, x_min, y_min, x_max, y_max in pixels, and
            optionally score, category and fps; other columns are ignored.
        every: the interval between prompted frames.
        match_iou: least IoU with an object's last box for a box to be that object.
        min_score: boxes with a lower score are left out.
        confirm_score: an object with one box needs at least this score; None: one box is enough.
        refine: which boxes of an object become prompts.
        fps: frame rate of the videos, to convert between frames and seconds, where there is no column fps.
    """
    table = _known_columns(detections)
    boxes = np.stack([table[side].fill_null(math.nan).to_numpy() for side in SIDES], axis=1).astype(np.float64)
    keep = np.isfinite(boxes).all(axis=1) & (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if "score" in table.column_names and min_score > -math.inf:
        keep &= table["score"].fill_null(math.nan).to_numpy() >= min_score
    table, boxes = table.filter(pa.array(keep)), boxes[keep]

    video = table["video_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    category = _category_codes(table)
    moment, position = _moments(table, every, fps)
    order = np.lexsort((moment, video))
    order = order[_firsts_of_intervals(video[order], moment[order], np.floor(position[order] + 1e-9))]
    objects = np.zeros(len(order), np.int64)
    for start, stop in _groups(video[order]):
        chosen = order[start:stop]
        objects[start:stop] = link(boxes[chosen], moment[chosen], category[chosen], match_iou=match_iou)
    sure = np.ones(table.num_rows, np.bool_) if confirm_score is None else _scores(table) >= confirm_score
    looks = _look_numbers(video[order], moment[order])
    prompted = _kept(video[order], objects, looks, sure[order], refine)
    order, objects = order[prompted], objects[prompted]

    when = "frame_index" if "frame_index" in table.column_names else "time_s"
    names = ["video_id", when, *SIDES, *(["category"] if "category" in table.column_names else [])]
    return table.select(names).take(pa.array(order)).append_column("object_id", pa.array(objects))


def link(boxes: Boxes, moment: Floats, category: Ints, *, match_iou: float) -> Ints:
    """Object numbers from 1 of one video's boxes, sorted by moment; the pairs of highest IoU are matched first."""
    objects = np.zeros(len(boxes), np.int64)
    last: dict[int, tuple[int, int]] = {}  # object -> its last box and the sampled frame it was in
    count = 0
    for sample, (start, stop) in enumerate(_groups(moment)):
        known = [(number, box) for number, (box, seen) in last.items() if sample - seen <= MAX_MISSED]
        if known:
            numbers, latest = (np.array(column) for column in zip(*known, strict=True))
            overlap = iou(boxes[start:stop], boxes[latest])
            overlap[category[start:stop, None] != category[latest]] = -1
            for _ in range(min(overlap.shape)):
                new, old = np.unravel_index(int(overlap.argmax()), overlap.shape)
                if overlap[new, old] < match_iou:
                    break
                objects[start + new] = numbers[old]
                overlap[new, :] = overlap[:, old] = -1
        for at in range(start, stop):
            if objects[at] == 0:
                count += 1
                objects[at] = count
            last[int(objects[at])] = (at, sample)
    return objects


def _scores(table: pa.Table) -> Floats:
    if "score" not in table.column_names:
        return np.zeros(table.num_rows)
    return np.asarray(table["score"].fill_null(0).to_numpy())


def _kept(video: Ints, objects: Ints, look: Ints, sure: npt.NDArray[np.bool_], refine: Refine) -> Ints:
    """Positions of the boxes that become prompts, of boxes sorted by video and look."""
    by_object = np.lexsort((look, objects, video))
    kept: list[int] = []
    pairs = video[by_object] * (objects.max(initial=0) + 1) + objects[by_object]
    for start, stop in _groups(pairs):
        own = by_object[start:stop]
        if len(own) < 2 and not sure[own].any():
            continue
        if refine == "never":
            own = own[:1]
        elif refine == "lost":
            own = own[np.append(True, np.diff(look[own]) > 1)]
        kept += own.tolist()
    return np.array(sorted(kept), np.int64)


def _look_numbers(video: Ints, moment: Floats) -> Ints:
    """For each row the number of its look, of rows sorted by video and moment."""
    new = np.append(False, (moment[1:] != moment[:-1]) | (video[1:] != video[:-1]))
    return np.asarray(np.cumsum(new[: len(video)]))


def iou(a: Boxes, b: Boxes) -> Floats:
    """Intersection over union of each box of `a` with each of `b`: (len(a), len(b))."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = (np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (a, b))
    return np.asarray(shared / (area_a[:, None] + area_b[None, :] - shared))


def _known_columns(detections: pa.Table) -> pa.Table:
    names = detections.column_names
    missing = [name for name in ("video_id", *SIDES) if name not in names]
    if "frame_index" not in names and "time_s" not in names:
        missing.append("frame_index or time_s")
    if missing:
        raise UsageError(f"detections lack the columns {', '.join(missing)}; they have {', '.join(names)}")
    types = {"video_id": pa.string(), "frame_index": pa.int64(), "category": pa.string()}
    columns = {}
    for name in ("video_id", "frame_index", "time_s", *SIDES, "score", "category", "fps"):
        if name not in names:
            continue
        try:
            columns[name] = detections[name].cast(types.get(name, pa.float64()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UsageError(f"detections: column {name} is not of numbers or text as it should be: {error}") from None
        if name in ("video_id", "frame_index", "time_s") and columns[name].null_count:
            raise UsageError(f"detections: column {name} has {columns[name].null_count} rows without a value")
    return pa.table(columns)


def _category_codes(table: pa.Table) -> Ints:
    if "category" not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    codes = table["category"].combine_chunks().dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(), dtype=np.int64)


def _moments(table: pa.Table, every: Every, fps: float | None) -> tuple[Floats, Floats]:
    """Of each row its frame or time, and that in intervals."""
    names = table.column_names
    rate = table["fps"].fill_null(0).to_numpy() if "fps" in names else fps
    if rate is not None and not np.all((np.asarray(rate) > 0) & np.isfinite(rate)):
        raise UsageError("a frame rate (fps) must be a number above 0")
    moment = table["frame_index" if "frame_index" in names else "time_s"].to_numpy().astype(np.float64)
    own = table["time_s" if every.seconds else "frame_index"].to_numpy() if _has(names, every) else None
    if own is None and rate is None:
        asked, given = ("seconds", "frame_index") if every.seconds else ("frames", "time_s")
        raise UsageError(f"an interval in {asked} needs the frame rate (fps), as the detections have {given} only")
    if own is None:
        own = moment / rate if every.seconds else moment * rate
    return moment, own / (every.seconds or every.frames)


def _has(names: list[str], every: Every) -> bool:
    return ("time_s" if every.seconds else "frame_index") in names


def _firsts_of_intervals(video: Ints, moment: Floats, interval: Floats) -> npt.NDArray[np.bool_]:
    """Rows that belong to the first moment of their interval; all are sorted by video and moment."""
    begins = np.ones(len(video), np.bool_)
    begins[1:] = (video[1:] != video[:-1]) | (interval[1:] != interval[:-1])
    head = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    return np.asarray(moment == moment[head])


def _groups(values: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Start and stop of each run of equal values."""
    edges = np.flatnonzero(values[1:] != values[:-1]) + 1 if len(values) else np.zeros(0, np.int64)
    bounds = [0, *edges.tolist(), len(values)] if len(values) else [0]
    yield from itertools.pairwise(bounds)
