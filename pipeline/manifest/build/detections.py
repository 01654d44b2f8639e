"""Boxes of any detector as prompts: sampled in time, and linked into objects."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UsageError
from pipeline.manifest.build.tracks import Refine, ids_of_tracks, prompts_of_tracks, with_main_categories

Boxes = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SIDES = ("x_min", "y_min", "x_max", "y_max")
MASK = ("mask_height", "mask_width", "mask_counts")
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
    left_out: Counter[str] | None = None,
) -> pa.Table:
    """A flat prompt table: of each interval the first frame with detections, and of its boxes those that are confirmed.

    Rows with a track_id are objects by it: of each interval the first row of an object, and none needs confirmation.
    Of the others, a box whose IoU with an object's last box is at least `match_iou`, and which has its category,
    refines that object; other boxes are new objects. An object is confirmed by a second box, or by one with a high
    score. Boxes without extent are left out.

    Args:
        detections: one row a box: video_id, frame_index or time_s, x_min, y_min, x_max, y_max in pixels, and
            optionally score, category, track_id, mask_height, mask_width, mask_counts and fps; other columns are
            ignored. A row with a mask prompts with it.
        every: the interval between prompted frames.
        match_iou: least IoU with an object's last box for a box to be that object.
        min_score: boxes with a lower score are left out.
        confirm_score: an object with one box needs at least this score; None: one box is enough.
        refine: which boxes of an object become prompts.
        fps: frame rate of the videos, to convert between frames and seconds, where there is no column fps.
        left_out: counts the rows that become no prompt, by reason.
    """
    table, left_out = _known_columns(detections), Counter() if left_out is None else left_out
    boxes = np.stack([table[side].fill_null(math.nan).to_numpy() for side in SIDES], axis=1).astype(np.float64)
    given, extent = ~np.isnan(boxes).all(axis=1), (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    high = np.ones(len(boxes), np.bool_)
    if "score" in table.column_names and min_score > -math.inf:
        high = table["score"].fill_null(math.nan).to_numpy() >= min_score
    keep = given & extent & np.isfinite(boxes).all(axis=1) & high
    left_out["are looks that saw nothing"] += int((~given).sum())
    left_out["have a score below --min-score, or none"] += int((given & ~high).sum())
    left_out["have a box without extent"] += int((given & high & ~keep).sum())
    table, boxes = table.filter(pa.array(keep)), boxes[keep]

    video = table["video_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    moment, position = _moments(table, every, fps)
    interval = np.floor(position + 1e-9)
    identities = table["track_id"].to_pylist() if "track_id" in table.column_names else [None] * table.num_rows
    table = with_main_categories(table, video, identities)
    own = np.array([each is not None for each in identities], np.bool_)

    tracked = prompts_of_tracks(video, moment, interval, identities, _scores(table), refine, left_out)
    taken = ids_of_tracks(video, tracked, identities)

    order = np.flatnonzero(~own)[np.lexsort((moment[~own], video[~own]))]
    sampled = _firsts_of_intervals(video[order], moment[order], interval[order])
    left_out["lie between two looks (--every)"] += int((~sampled).sum())
    order = order[sampled]
    objects, category = np.zeros(len(order), np.int64), _category_codes(table)
    for start, stop in _groups(video[order]):
        chosen = order[start:stop]
        first = 1 + max(taken.get(int(video[chosen[0]]), {}).values(), default=0)
        objects[start:stop] = link(boxes[chosen], moment[chosen], category[chosen], match_iou=match_iou) + first - 1
    sure = np.ones(table.num_rows, np.bool_) if confirm_score is None else _scores(table) >= confirm_score
    looks = _look_numbers(video[order], moment[order])
    prompted = _kept(video[order], objects, looks, sure[order], refine, left_out)
    order, objects = order[prompted], objects[prompted]

    order = np.concatenate((order, tracked))
    of_tracks = [taken[int(video[row])][identities[row] or ""] for row in tracked.tolist()]
    objects = np.concatenate((objects, np.array(of_tracks, np.int64)))
    if len(tracked):
        by_moment = np.lexsort((objects, moment[order], video[order]))
        order, objects = order[by_moment], objects[by_moment]
    return _prompt_table(table, order).append_column("object_id", pa.array(objects))


def _prompt_table(table: pa.Table, rows: Ints) -> pa.Table:
    """These rows in the columns of a flat prompt table; a row with a mask has no box."""
    when = "frame_index" if "frame_index" in table.column_names else "time_s"
    optional = [name for name in ("category", *MASK) if name in table.column_names]
    found = table.select(["video_id", when, *SIDES, *optional]).take(pa.array(rows))
    if not set(MASK) <= set(optional):
        return found
    masked = found["mask_counts"].is_valid()
    for side in SIDES:
        at = found.schema.get_field_index(side)
        found = found.set_column(at, side, pc.if_else(masked, pa.scalar(None, pa.float64()), found[side]))
    return found


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


def _kept(
    video: Ints, objects: Ints, look: Ints, sure: npt.NDArray[np.bool_], refine: Refine, left_out: Counter[str]
) -> Ints:
    """Positions of the boxes that become prompts, of boxes sorted by video and look."""
    by_object = np.lexsort((look, objects, video))
    kept: list[int] = []
    pairs = video[by_object] * (objects.max(initial=0) + 1) + objects[by_object]
    for start, stop in _groups(pairs):
        own = by_object[start:stop]
        if len(own) < 2 and not sure[own].any():
            left_out["are seen once, with a score below --confirm-score"] += 1
            continue
        seen = len(own)
        if refine == "never":
            own = own[:1]
        elif refine == "lost":
            own = own[np.append(True, np.diff(look[own]) > 1)]
        left_out["show an object that is prompted already (--refine)"] += seen - len(own)
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
    texts = dict.fromkeys(("video_id", "category", "track_id", "mask_counts"), pa.string())
    types = texts | dict.fromkeys(("frame_index", "mask_height", "mask_width"), pa.int64())
    columns = {}
    for name in ("video_id", "frame_index", "time_s", *SIDES, "score", "category", "track_id", "fps", *MASK):
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
