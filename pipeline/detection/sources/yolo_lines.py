"""Lines of YOLO label files: a class, and a box or polygon in shares of the frame's size."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UsageError
from pipeline.masks import rle
from pipeline.masks.outlines import Points, fill_through_centres


@dataclass(frozen=True, kw_only=True)
class YoloObject:
    """One line of a label file."""

    kind: int
    ring: Points | None
    """The polygon's points in shares of the frame; None for a box."""
    box: tuple[float, float, float, float]
    """x_min, y_min, x_max, y_max in shares of the frame."""

    def pixels(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The box in pixels, as wide as the pixels that the polygon's points lie in."""
        height, width = size
        x_min, y_min, x_max, y_max = self.box
        if self.ring is None:
            return x_min * width, y_min * height, x_max * width, y_max * height
        return (
            float(np.floor(x_min * width)), float(np.floor(y_min * height)),
            float(np.floor(x_max * width)) + 1, float(np.floor(y_max * height)) + 1,
        )  # fmt: skip

    def counts(self, size: tuple[int, int]) -> str:
        """The mask in a frame of [height, width], as Ultralytics draws it; of a box, the box."""
        height, width = size
        if self.ring is not None:
            return rle.encode(fill_through_centres(self.ring * np.array([width, height]), size)[None])[0]
        mask = np.zeros(size, np.bool_)
        x_min, y_min, x_max, y_max = (max(round(side), 0) for side in self.pixels(size))
        mask[y_min:y_max, x_min:x_max] = True
        return rle.encode(mask[None])[0]


def read_yolo(text: str, *, name: str = "YOLO labels") -> list[YoloObject]:
    """The lines of one label file: polygons, or boxes given by centre and size."""
    found = []
    for at, line in enumerate(text.splitlines(), start=1):
        if cells := line.split():
            try:
                found.append(yolo_object(cells))
            except UsageError as error:
                raise UsageError(f"{name}, line {at}: {error}") from error.__cause__
    return found


def yolo_object(cells: Sequence[str]) -> YoloObject:
    """The object of a line's class and coordinates.

    Raises:
        UsageError: They are neither a box nor a polygon.
    """
    try:
        kind, values = int(cells[0]), np.array(cells[1:], np.float64)
    except (ValueError, OverflowError) as error:
        line = " ".join(cells)[:60]
        raise UsageError(f"{line!r} is not a class and numbers: {error}") from error
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 2:
        raise UsageError("coordinates are shares of the frame, between 0 and 1")
    if len(values) == 4:
        x, y, width, height = values.tolist()
        return YoloObject(kind=kind, ring=None, box=(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(values) >= 2 and len(values) % 2 == 0:
        ring = values.reshape(-1, 2)
        low, high = ring.min(0).tolist(), ring.max(0).tolist()
        return YoloObject(kind=kind, ring=ring, box=(low[0], low[1], high[0], high[1]))
    raise UsageError(f"{len(values)} numbers are neither a box of 4 nor points of 2 each")
