"""The settings of association that users choose; part of the label key of every video with detections."""

import json
import math
from dataclasses import asdict, dataclass

from pipeline.errors import UsageError

ASSOCIATION_VERSION = 2
"""Increase it when the same detections and settings give other prompts; this relabels every video with detections."""


@dataclass(frozen=True, kw_only=True)
class Association:
    """Which detections count, and when an object begins, is prompted again and ends.

    Raises:
        UsageError: A value is not among those allowed.
    """

    classes: tuple[str, ...] = ()
    """Categories whose detections count; all when empty."""
    min_score: float = 0.0
    """Detections with a lower score do not count; one without a score does."""
    confirm_score: float = 0.8
    """A detection with at least this score begins an object alone; others need a second look that agrees."""
    min_box: float = 0.0
    """Detections whose box has a shorter side, in pixels, do not count."""
    max_objects: int = 1000
    """Objects that begin in one video."""
    max_objects_per_frame: int = 100
    """Objects that are tracked at a time."""
    retire_after_s: float | None = 10.0
    """An object that is absent, and that no look has seen, for so many seconds ends. None: it never ends."""
    cuts: tuple[int, ...] = ()
    """First frames after the cuts of the video, ascending: no object survives one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(sorted(set(self.classes))))
        for name in ("min_score", "confirm_score", "min_box"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; allowed is 0 or more")
        for name in ("max_objects", "max_objects_per_frame"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}; allowed is 1 or more")
        if self.retire_after_s is not None and not 0 < self.retire_after_s < math.inf:
            raise UsageError(f"--retire-after is {self.retire_after_s} s; allowed are seconds above 0, or off")

    def to_json(self) -> str:
        """Canonical JSON, as label keys and the videos table hold it."""
        values = {**asdict(self), "version": ASSOCIATION_VERSION}
        if not self.cuts:
            del values["cuts"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))
