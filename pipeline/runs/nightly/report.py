"""The record of an attempt at a night: report.json, which the history sums up and the page shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, UsageError
from pipeline.runs.nightly.retry import due_at
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.nightly.union import Union
from pipeline.runs.progress import RunReport
from pipeline.storage import redact

FORMAT = 1
LISTED = 200
"""Failures and bad rows that a report names; others are only counted."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Labelled videos that are in no manifest any longer; their labels are kept."""

    videos: int
    examples: list[str]


def absent_videos(labelled: pa.Table, union: Union) -> Absent:
    """Count the labelled videos that are in none of the manifests."""
    ids = labelled["video_id"]
    gone = ids.filter(pc.invert(pc.is_in(ids, value_set=union.manifest.table["video_id"])))
    return Absent(videos=len(gone), examples=sorted(gone.slice(0, 20).to_pylist()))


def begin_record(settings: NightSettings, *, night: str, started: datetime, stop_at: datetime | None) -> dict[str, Any]:
    """The record of an attempt when it begins."""
    return {
        "format": FORMAT,
        "night": night,
        "output": redact(settings.run.output),
        "model": settings.run.model,
        "timezone": settings.timezone,
        "started": _iso(started),
        "stop_at": stop_at and _iso(stop_at),
        "budget_gpu_hours": settings.budget_gpu_hours,
        "price_per_gpu_hour": settings.price_per_gpu_hour,
        "currency": settings.currency,
    }


def union_record(union: Union, absent: Absent) -> dict[str, Any]:
    """The part of the record about manifests."""
    return {
        "videos": len(union.manifest),
        "superseded": union.superseded,
        "manifests": [asdict(source) for source in union.sources],
        "bad_rows": list(union.bad_rows[:LISTED]),
        "bad_row_count": len(union.bad_rows),
        "absent": absent.videos,
        "absent_examples": absent.examples,
    }


def run_record(report: RunReport, settings: NightSettings) -> dict[str, Any]:
    """The part of the record about the run."""
    after_s = settings.retry_after_s()
    new = [failure for failure in report.failures if failure.run_id == report.run_id]
    kept = [failure for failure in report.failures if failure.run_id != report.run_id]
    hours = report.gpu_hours or report.actor_hours
    price = settings.price_per_gpu_hour
    return {
        "run_id": report.run_id,
        "planned": report.planned,
        "reasons": report.reasons,
        "returns": report.returns,
        "notes": report.notes,
        "labelled": report.labelled,
        "truncated": report.truncated,
        "damaged": report.damaged,
        "failed": len(new),
        "failed_by_class": dict(Counter(failure.failure_class for failure in new).most_common()),
        "quarantined": len(kept),
        "quarantined_by_class": dict(Counter(failure.failure_class for failure in kept).most_common()),
        "failures": [
            {
                "video_id": failure.video_id,
                "class": failure.failure_class,
                "message": failure.message,
                "time": failure.time,
                "attempts": len(failure.attempts),
                "new": failure.run_id == report.run_id,
                "due": (due := due_at(failure, after_s=after_s)) and _iso(due),
            }
            for failure in [*new, *kept][:LISTED]
        ],
        "deaths": report.deaths,
        "left": report.left,
        "stopped_by": report.stopped_by,
        "frames": report.frames,
        "masks": report.masks,
        "seconds": round(report.seconds, 1),
        "gpu_hours": round(hours, 6),
        "hours_of": "GPU" if report.gpu_hours or not report.actor_hours else "actor",
        "cost": None if price is None else round(hours * price, 4),
        "published": asdict(report.published) if report.published else None,
    }


def with_run(
    record: Mapping[str, Any], report: RunReport, settings: NightSettings, *, over_budget: bool = False
) -> dict[str, Any]:
    """The record with the run's results; `over_budget` if earlier attempts had used up the night's budget."""
    whole = {**record, **run_record(report, settings)}
    whole["bad_rows"] = [*whole["bad_rows"], *report.bad_rows[:LISTED]]
    whole["bad_row_count"] += len(report.bad_rows)
    if over_budget and report.left:
        whole["stopped_by"] = "budget"
    return whole


def end_record(
    record: Mapping[str, Any], *, attempt: int, ended: datetime, error: BaseException | None
) -> dict[str, Any]:
    """The finished report of an attempt, with its exit code."""
    words = str(error) if isinstance(error, CorpusError) else f"{type(error).__name__}: {error}"
    if isinstance(error, KeyboardInterrupt):
        words = "interrupted by a second signal before in-flight videos were checkpointed"
    whole = {**record, "attempt": attempt, "ended": _iso(ended), "error": words if error else None}
    codes = {UsageError: 2, KeyboardInterrupt: 130}
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), 1) if error else exit_code(whole)
    return whole | {"exit_code": code}


def exit_code(record: Mapping[str, Any]) -> int:
    """0 all labelled; 3 finished with failures or bad rows; 4 stopped before the end."""
    if record.get("left"):
        return 4
    trouble: Sequence[str] = ("failed", "quarantined", "bad_row_count")
    return 3 if any(record.get(name) for name in trouble) else 0


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
