"""A night in numbers, its verdict in one sentence, and a picture on its page."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.views.words import count


@dataclass(frozen=True, kw_only=True)
class Night:
    """One night in numbers, all its attempts together."""

    night: str
    attempts: int
    labelled: int = 0
    failed: int = 0
    """Videos that the last attempt left failed or in quarantine."""
    new_failures: int = 0
    """Of the failed ones, those that failed in this night for the first time."""
    left: int = 0
    """Pending videos that the last attempt left."""
    frames: int = 0
    masks: int = 0
    seconds: float = 0.0
    """Seconds of labelling, without planning, the start of workers and publishing."""
    gpu_hours: float = 0.0
    cost: float | None = None
    unfinished: int = 0
    """Attempts that ended without a report: killed, or still running."""
    error: str | None = None
    """Why the last attempt could not do its work."""
    exit_code: int | None = None

    @property
    def frames_per_s(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def tried(self) -> int:
        return self.labelled + self.new_failures

    @property
    def ending(self) -> str:
        """How the night ended, in a word or two."""
        if self.error or self.exit_code is None:
            return "failed" if self.error else "no report"
        return {0: "complete", 3: "with failures", 4: "stopped"}.get(self.exit_code, "failed")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One object on its worst frame."""

    video_id: str
    object_id: int
    category: str | None
    frame_index: int
    doubt: float
    """How likely the masklet is wrong, 0 to 1."""
    reasons: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The picture as a data: address."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


def verdict(record: Mapping[str, Any]) -> tuple[str, str]:
    """How the night ended, in a word for its colour and in a sentence."""
    if record.get("error"):
        return "bad", "The night failed"
    new = record.get("new_failures", record.get("failed", 0))
    known = record.get("known_failures", record.get("quarantined", 0))
    failures = count(new, "new failure") + (f", {known:,} known" if known else "") if new or known else ""
    if left := record.get("left"):
        why = {"stop-at": "at its stop time", "budget": "with its budget used up", "signal": "when asked to"}
        reason = why.get(str(record.get("stopped_by")), "before the end")
        return "warn", f"Stopped {reason}, {count(left, 'video')} left" + (f"; {failures}" if failures else "")
    bad_rows = record.get("bad_row_count", 0)
    if new_rows := record.get("new_bad_rows", bad_rows):
        failures += f"{'; ' if failures else ''}{count(new_rows, 'new bad row')} in the manifests"
    if failures:
        return "warn" if new or new_rows else "good", f"Finished, {failures}"
    if bad_rows:
        return "good", f"Finished, nothing new; {count(bad_rows, 'known bad row')} in the manifests"
    return "good", "Everything is labelled"
