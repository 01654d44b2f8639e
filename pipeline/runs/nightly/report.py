"""The record of an attempt at a night: report.json, which the history sums up and the page shows."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, UsageError
from pipeline.labels.failures import Failure
from pipeline.runs.nightly.retry import due_at
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.nightly.union import OTHER_ROW_USED, Union
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
        "links": dict(settings.links),
        "currency": settings.currency,
    }


def union_record(union: Union, absent: Absent) -> dict[str, Any]:
    """The part of the record about manifests."""
    return {
        "videos": len(union.manifest),
        "superseded": union.superseded,
        "manifests": [asdict(source) for source in union.sources],
        "absent": absent.videos,
        "absent_examples": absent.examples,
    }


def run_record(
    report: RunReport, settings: NightSettings, *, earlier_runs: Collection[str] = frozenset()
) -> dict[str, Any]:
    """The part of the record about the run.

    A failure is new if the video first failed so, with this class and key, in this run or in `earlier_runs`, those of
    this night's earlier attempts; others are known from earlier nights.
    """
    after_s = settings.retry_after_s()
    failed = [failure for failure in report.failures if failure.run_id == report.run_id]
    kept = [failure for failure in report.failures if failure.run_id != report.run_id]
    tonight = {report.run_id, *earlier_runs}
    new = [failure for failure in report.failures if failure.since_run in tonight]
    known = [failure for failure in report.failures if failure.since_run not in tonight]
    hours = report.gpu_hours or report.actor_hours
    hours_of = "GPU" if report.gpu_hours or not report.actor_hours else "actor"
    price = settings.price(gpus=hours_of == "GPU")
    return {
        "run_id": report.run_id,
        "planned": report.planned,
        "reasons": report.reasons,
        "returns": report.returns,
        "notes": report.notes,
        "labelled": report.labelled,
        "truncated": report.truncated,
        "damaged": report.damaged,
        "failed": len(failed),
        "failed_by_class": _by_class(failed),
        "quarantined": len(kept),
        "quarantined_by_class": _by_class(kept),
        "new_failures": len(new),
        "new_failures_by_class": _by_class(new),
        "known_failures": len(known),
        "known_failures_by_class": _by_class(known),
        "failures": [
            {
                "video_id": failure.video_id,
                "class": failure.failure_class,
                "message": failure.message,
                "time": failure.time,
                "attempts": len(failure.attempts),
                "new": failure.since_run in tonight,
                "due": (due := due_at(failure, after_s=after_s)) and _iso(due),
            }
            for failure in [*new, *known][:LISTED]
        ],
        "deaths": report.deaths,
        "left": report.left,
        "stopped_by": report.stopped_by,
        "frames": report.frames,
        "masks": report.masks,
        "seconds": round(report.seconds, 1),
        "labelling_s": round(report.labelling_s, 1),
        "gpu_hours": round(hours, 6),
        "hours_of": hours_of,
        "cost": None if price is None or not hours else round(hours * price, 4),
        "published": asdict(report.published) if report.published else None,
    }


def bad_rows_record(bad_rows: Sequence[str], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the record about bad rows, new ones first; `earlier` is the same of the night before.

    A report lists at most LISTED of them, so of the others only the number is compared.
    """
    known_texts = {_without_note(text) for text in earlier.get("bad_rows", ())}
    new = [text for text in bad_rows if _without_note(text) not in known_texts]
    known = [text for text in bad_rows if _without_note(text) in known_texts]
    unlisted = earlier.get("bad_row_count", 0) - len(known_texts)
    return {
        "bad_rows": [*new, *known][:LISTED],
        "bad_row_count": len(bad_rows),
        "new_bad_rows": max(0, len(new) - max(0, unlisted)),
    }


def with_run(
    record: Mapping[str, Any],
    report: RunReport,
    settings: NightSettings,
    *,
    over_budget: bool = False,
    earlier_runs: Collection[str] = frozenset(),
) -> dict[str, Any]:
    """The record with the run's results.

    Args:
        record: the record so far.
        report: the run's.
        settings: those of the night.
        over_budget: earlier attempts had used up the night's budget.
        earlier_runs: the runs of the night's earlier attempts.
    """
    whole = {**record, **run_record(report, settings, earlier_runs=earlier_runs)}
    if over_budget and report.left:
        whole["stopped_by"] = "budget"
    return whole


def detection_record(report: RunReport) -> dict[str, Any]:
    """The part of the record about the detection that came before labelling."""
    return {
        "run_id": report.run_id,
        "videos": report.labelled,
        "detections": report.masks,
        "failures": [f"{failure.video_id}: {failure.message}" for failure in report.failures],
        "left": report.left,
        "seconds": round(report.seconds, 1),
        "hours": round(report.gpu_hours or report.actor_hours, 6),
    }


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
    """0 finished without new failures; 3 finished with new failures or bad rows; 4 stopped before the end."""
    if record.get("left"):
        return 4
    return 3 if record.get("new_failures") or record.get("new_bad_rows") else 0


def _by_class(failures: Sequence[Failure]) -> dict[str, int]:
    return dict(Counter(failure.failure_class for failure in failures).most_common())


def _without_note(bad_row: str) -> str:
    """A bad row without the note on other rows, which may differ from night to night."""
    return bad_row.removesuffix(OTHER_ROW_USED)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
