"""The settings of detection: they decide what a table of detections holds, and are part of its keys."""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.errors import UsageError

DETECTION_VERSION = 1
"""Increase it only when the detections of the same inputs change; this detects every corpus again."""

Looks = Literal["keyframes", "shots"]
_SECONDS = re.compile(r"(\d*\.?\d+)s")


@dataclass(frozen=True, kw_only=True)
class DetectionParameters:
    """What a detector looks for, and in which frames.

    Raises:
        UsageError: A value is not among those allowed.
    """

    classes: tuple[str, ...] = ()
    """Names of the classes, sorted, each once; empty with `everything`."""
    at: str = "1s"
    """Which frames are looked at: one per interval ("1s", "0.5s"), "keyframes", or the first of each shot ("shots")."""
    threshold: float | None = None
    """Least score of a detection. None: the model's own, which planning fills in."""
    everything: bool = False
    """Segment everything with a SAM 2 model instead of detecting classes."""

    def __post_init__(self) -> None:
        if self.at not in ("keyframes", "shots") and self.step_s is None:
            raise UsageError(f"--at is {self.at!r}; allowed are an interval such as 1s or 0.5s, keyframes and shots")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold is {self.threshold}; allowed are scores from 0 to 1")
        if self.everything and self.classes:
            raise UsageError("--everything finds objects of no class; leave --classes out")
        if not self.everything and not self.classes:
            raise UsageError('--classes is missing; name one or more, such as "car, person", or give --everything')

    @property
    def step_s(self) -> float | None:
        """Seconds between two looks; None where they are at key frames or shots."""
        found = _SECONDS.fullmatch(self.at)
        return float(found[1]) if found and 0 < float(found[1]) < math.inf else None

    @property
    def least_score(self) -> float:
        """The threshold, given or filled in."""
        assert self.threshold is not None
        return self.threshold

    def to_json(self) -> str:
        """Canonical JSON, as detection keys hold it."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def parse_classes(text: str) -> tuple[str, ...]:
    """The classes of a list such as "car, person": sorted, each once; case and repeated blanks do not count.

    Raises:
        UsageError: A name is empty, or holds a character that text prompts use as a separator.
    """
    names = [" ".join(name.split()).lower() for name in text.split(",")]
    for name in names:
        if not name or "." in name:
            raise UsageError(f"--classes is {text!r}; allowed are names without full stops, separated by commas")
    return tuple(sorted(set(names)))
