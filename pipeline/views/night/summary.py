"""A night in numbers, and its verdict in one sentence."""

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
    left: int = 0
    """Pending videos that the last attempt left."""
    frames: int = 0
    masks: int = 0
    seconds: float = 0.0
    """Seconds of labelling, without planning and publishing."""
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
        return self.labelled + self.failed

    @property
    def ending(self) -> str:
        """How the night ended, in a word or two."""
        if self.error or self.exit_code is None:
            return "failed" if self.error else "no report"
        return {0: "complete", 3: "with failures", 4: "stopped"}.get(self.exit_code, "failed")


def verdict(record: Mapping[str, Any]) -> tuple[str, str]:
    """How the night ended, in a word for its colour and in a sentence."""
    if record.get("error"):
        return "bad", "The night failed"
    without = record.get("failed", 0) + record.get("quarantined", 0)
    failed = f"; {count(without, 'video')} without labels" if without else ""
    if left := record.get("left"):
        why = {"stop-at": "at its stop time", "budget": "with its budget used up", "signal": "when asked to"}
        reason = why.get(str(record.get("stopped_by")), "before the end")
        return "warn", f"Stopped {reason}, {count(left, 'video')} left{failed}"
    if without:
        return "warn", f"Finished, {count(without, 'video')} without labels"
    if record.get("bad_row_count"):
        return "warn", "Finished, but the manifests have bad rows"
    return "good", "Everything is labelled"
