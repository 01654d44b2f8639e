"""Tracked frames against the reference's rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tracking import Direction, Engine, MaskPostprocessor, TrackedFrame, TrackedObject
from pipeline.tracking.stepping import LoadedModel
from tests.tracking import reference
from tests.tracking.videos import MemorySource

Frames = list[TrackedFrame]


@dataclass
class Difference:
    rows: int = 0
    pixels: int = 0
    flipped: int = 0
    inside: int = 0
    object_logit: float = 0.0
    predicted_iou: float = 0.0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(
            self.rows + other.rows,
            self.pixels + other.pixels,
            self.flipped + other.flipped,
            self.inside + other.inside,
            max(self.object_logit, other.object_logit),
            max(self.predicted_iou, other.predicted_iou),
        )

    def check(self) -> None:
        """The project's tolerance, and that something was compared at all. A few pixels of a small sample are noise:
        a random model's logits may come within 1e-5 of the threshold."""
        assert self.rows
        assert self.inside, "all masks are empty: nothing was compared"
        assert self.object_logit <= 1e-3, self
        assert self.predicted_iou <= 1e-3, self
        assert self.flipped <= max(4, self.pixels / 100_000), self


def to_transformers(
    sam2: LoadedModel,
    video: Sequence[NDArray[np.uint8]],
    objects: Sequence[TrackedObject],
    direction: Direction,
    *,
    engine: Engine | None = None,
) -> Difference:
    height, width = video[0].shape[:2]
    expected = reference.rows(sam2, video, objects, direction)
    seen = set()
    difference = Difference()
    for frame in (engine or Engine(sam2)).propagate(MemorySource(sam2, video), objects, direction=direction):
        masks = MaskPostprocessor().masks(frame.logits, height=height, width=width).numpy()
        for n, object_id in enumerate(frame.object_ids):
            key = (object_id, frame.frame_index)
            assert key not in seen, f"{key} came twice"
            seen.add(key)
            row = expected[key]
            difference += Difference(
                rows=1,
                pixels=row.mask.size,
                flipped=int((row.mask != masks[n]).sum()),
                inside=int(row.mask.sum()),
                object_logit=_apart(row.object_logit, float(frame.object_logit[n])),
                predicted_iou=_apart(row.predicted_iou, float(frame.predicted_iou[n])),
            )
    assert seen == set(expected)
    return difference


def frames_alike(one: Iterable[TrackedFrame], other: Iterable[TrackedFrame]) -> Difference:
    """Low-resolution masks of two propagations of the same objects."""
    difference = Difference()
    for a, b in zip(one, other, strict=True):
        assert (a.frame_index, a.object_ids, a.is_prompted) == (b.frame_index, b.object_ids, b.is_prompted)
        inside = a.logits > 0
        difference += Difference(
            rows=len(a.object_ids),
            pixels=inside.numel(),
            flipped=int((inside != (b.logits > 0)).sum()),
            inside=int(inside.sum()),
            object_logit=max(map(_apart, a.object_logit.tolist(), b.object_logit.tolist())),
            predicted_iou=max(map(_apart, a.predicted_iou.tolist(), b.predicted_iou.tolist())),
        )
    return difference


def _apart(one: float, other: float) -> float:
    if np.isnan(one) or np.isnan(other):
        assert np.isnan(one), "NaN stands for a mask prompt alone"
        assert np.isnan(other), "NaN stands for a mask prompt alone"
        return 0.0
    return abs(one - other)
