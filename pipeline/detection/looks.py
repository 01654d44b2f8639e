"""The looks of a detector at one video: which detections count on which frame, and what was dropped."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.detection.thresholds import Association
from pipeline.manifest.identities import main_categories
from pipeline.manifest.kinds import PROMPT_KINDS, SIDES, Box, Mask
from pipeline.masks import rle

BoxSides = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels of the displayed frame."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One detection that counts, within the frame."""

    box: BoxSides
    mask: tuple[tuple[int, int], str] | None = None
    """(height, width) and COCO counts; `box` is then the mask's."""
    category: str | None = None
    score: float | None = None
    track_id: str | None = None
    """The identity that a tracker gave."""

    def record(self) -> dict[str, Any]:
        """The detection as a prompt's fields in a manifest."""
        found = {"mask": Mask().record(self.mask)} if self.mask else {"box": Box().record(self.box)}
        return found if self.category is None else {**found, "category": self.category}

    def arrays(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The detection as fields of a `FramePrompt`."""
        kind = next(kind for kind in PROMPT_KINDS if kind.name == ("mask" if self.mask else "box"))
        return dict(kind.arrays(self.mask or self.box, size))


@dataclass(frozen=True, kw_only=True)
class Look:
    """All detections on one frame; none where the detector saw nothing."""

    frame: int
    detections: tuple[Detection, ...]


def looks_of(
    table: pa.Table,
    *,
    size: tuple[int, int],
    index_at: Callable[[list[float]], list[int | None]],
    settings: Association,
) -> tuple[list[Look], Counter[str]]:
    """The looks in frame order, and how many detections were dropped by reason.

    Args:
        table: the video's detections, as `table.read_video` returns them.
        size: height and width of the displayed frame.
        index_at: the frames on screen at times in seconds; None where the video has none.
        settings: which detections count.
    """
    dropped: Counter[str] = Counter()
    rows = table.drop_columns("video_id").to_pylist()
    main = main_categories((row.get("track_id"), row["category"]) for row in rows)
    for row in rows:  # a tracker may see another class on some frames
        row["category"] = main.get(row.get("track_id"), row["category"])
    timed = [row for row in rows if row["frame_index"] is None]
    for row, frame in zip(timed, index_at([row["time_s"] for row in timed]), strict=True):
        row["frame_index"] = frame
    dropped["beyond_the_end"] += sum(row["frame_index"] is None for row in rows)
    looks = []
    known = sorted((row for row in rows if row["frame_index"] is not None), key=lambda row: row["frame_index"])
    for frame, group in itertools.groupby(known, key=lambda row: row["frame_index"]):
        counted: dict[Detection, None] = {}
        for row in group:
            if row["box"] is None and row["mask"] is None:
                continue
            detection, why = _detection(row, size, settings)
            if detection is not None and detection in counted:
                why = "duplicate"
            if why is not None or detection is None:
                dropped[why or ""] += 1
            else:
                counted[detection] = None
        # Rows of a table may be in any order: the best first, and the rest by what they are.
        order = sorted(counted, key=_rank)
        once = [d for n, d in enumerate(order) if d.track_id is None or d.track_id not in _identities(order[:n])]
        dropped["repeated_identity"] += len(order) - len(once)
        looks.append(Look(frame=frame, detections=tuple(once)))
    return looks, +dropped


def _rank(d: Detection) -> tuple[Any, ...]:
    return (-(d.score or 0), d.category or "", d.box, d.mask or ((0, 0), ""), d.track_id or "")


def _identities(detections: Sequence[Detection]) -> set[str | None]:
    return {d.track_id for d in detections}


def _detection(
    row: dict[str, Any], size: tuple[int, int], settings: Association
) -> tuple[Detection | None, str | None]:
    """The detection of a row, or why it does not count."""
    height, width = size
    if settings.classes and row["category"] not in settings.classes:
        return None, "other_class"
    if row["score"] is not None and row["score"] < settings.min_score:
        return None, "low_score"
    mask = Mask().parse(row["mask"])
    if mask is not None:
        if mask[0] != size:
            return None, "mask_of_another_size"
        found = rle.bbox(mask[1], mask[0])
        if found is None:
            return None, "empty_mask"
        box = tuple(float(side) for side in found)
    else:
        sides = [row["box"][side] for side in SIDES]
        box = tuple(min(max(side, 0.0), float(limit)) for side, limit in zip(sides, (width, height) * 2, strict=True))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None, "outside_the_frame"
    if min(box[2] - box[0], box[3] - box[1]) < settings.min_box:
        return None, "small_box"
    category = row["category"] or None
    inside, track_id = (box[0], box[1], box[2], box[3]), row.get("track_id")
    return Detection(box=inside, mask=mask, category=category, score=row["score"], track_id=track_id), None


def boxes_of(detections: Sequence[Detection]) -> np.ndarray:
    """(n, 4) float64."""
    return np.array([d.box for d in detections], np.float64).reshape(-1, 4)
