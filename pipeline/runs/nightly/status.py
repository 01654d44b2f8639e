"""The status of a run, read from its progress.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import UsageError
from pipeline.runs.summary import damage_text, failures_text
from pipeline.storage import Store
from pipeline.storage.paths import RUNS, progress_path
from pipeline.tables.output import require_run
from pipeline.views.words import count, duration

SILENT_S = 60.0
"""Seconds without an update after which a run is presumed dead, or unable to reach its output."""
IDLE_RUNS = 100
"""Largest number of runs without pending videos to skip in search of one that had some."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """A run by its last progress.json."""

    run_id: str
    progress: Mapping[str, Any]
    idle_since: int = 0
    """Later runs, which had nothing to label."""
    last_idle: "Status | None" = None
    """The last of them."""

    def state(self, now: float) -> str:
        """running, stopping, ended, or silent if an update is overdue."""
        state = str(self.progress["state"])
        return state if state == "ended" or self.age_s(now) < SILENT_S else "silent"

    def age_s(self, now: float) -> float:
        """Seconds since the last update."""
        return max(0.0, now - float(self.progress["now"]))

    @property
    def failed(self) -> int:
        """Pending videos that failed."""
        return sum(self.progress["failed"].values())

    @property
    def in_flight(self) -> int:
        """Number of in-flight videos; the oldest of them are listed one by one."""
        earlier = self.progress.get("in_hand", len(self.progress["flights"]))  # the name before release 0.2
        return int(self.progress.get("in_flight", earlier))

    @property
    def waiting(self) -> int:
        """Pending videos that are not in flight."""
        return max(0, int(self.progress["videos"]) - int(self.progress["done"]) - self.failed - self.in_flight)


def read_status(store: Store, *, run_id: str | None = None) -> Status:
    """The status of a run: without an id the newest that had videos to label, or the newest of all when none had.

    Raises:
        UsageError: There is no such run.
    """
    names = store.list_dirs(RUNS)
    if run_id is not None:
        require_run(store, run_id)
        if (found := _status(store, run_id)) is None:
            raise UsageError(f"run {run_id} labelled nothing: it had nothing to do, or ended before it began")
        return found
    idle: list[Status] = []
    for name in reversed(names):
        if (found := _status(store, name)) is None:
            continue
        if found.progress["videos"] or found.progress["state"] != "ended":
            return replace(found, idle_since=len(idle), last_idle=idle[0] if idle else None)
        idle.append(found)
        if len(idle) == IDLE_RUNS:
            break
    if not idle:
        raise UsageError(f"{store} has no run that labelled anything")
    return idle[0]


def _status(store: Store, run_id: str) -> Status | None:
    data = store.read_or_none(progress_path(run_id))
    return None if data is None else Status(run_id=run_id, progress=json.loads(data))


def lines(status: Status, *, now: float, flights: int = 20) -> list[str]:
    """The status in words."""
    progress, spent = status.progress, float(status.progress["now"]) - float(status.progress["started"])
    began = float(progress.get("first_frame") or progress["started"])
    labelled_s = max(float(progress.get("labelled_until") or progress["now"]) - began, 1e-9)
    state = status.state(now)
    done, videos = int(progress["done"]), int(progress["videos"])
    said = "" if state == "ended" else f", last update {duration(status.age_s(now))} ago"
    eta = progress.get("eta_s")
    found = [
        f"run {status.run_id}: {state} after {duration(spent)}{said}",
        f"{done} of {count(videos, 'video')} done"
        + "".join(f", {text}" for text in (*_troubles(status), _rest(status, state)) if text),
        f"{progress['frames'] / labelled_s:.1f} frames/s, {progress['masks'] / labelled_s:.1f} masks/s, "
        f"{done * 3600 / labelled_s:.0f} videos/h, {progress['gpu_hours'] or progress['actor_hours']:.2f} "
        f"{'GPU' if progress['gpu_hours'] else 'actor'} hours"
        + (f", ETA {duration(eta)}" if state == "running" and eta is not None else ""),
    ]
    found += [f"  failed: {videos:6} {name}" for name, videos in sorted(progress["failed"].items())]
    if progress.get("unreadable"):
        found.append(f"  failed: {progress['unreadable']:6} source cannot be found")
    found += [f"  workers lost: {workers} ({name})" for name, workers in sorted(progress.get("deaths", {}).items())]
    found += [f"  warning of {workers} workers: {text}" for text, workers in progress.get("warnings", {}).items()]
    oldest = sorted(progress["flights"], key=lambda flight: float(flight["started"]))
    found += [
        f"  in flight: {duration(now - float(flight['started'])):>9}  {flight['video_id']!r} on {flight['worker']}"
        for flight in oldest[:flights]
    ]
    if status.in_flight > flights:
        found.append(f"  and {status.in_flight - flights} more in flight, assigned later")
    if status.last_idle:
        ago = duration(status.last_idle.age_s(now))
        later = f"{count(status.idle_since, 'later run')} had nothing to label"
        found.append(f"{later}; the last: {status.last_idle.run_id}, {ago} ago")
    return found


def _rest(status: Status, state: str) -> str:
    """What is in flight and waiting; of a run that has ended, what it left."""
    if state == "ended":
        return f"{status.waiting} left" if status.waiting else ""
    actors = count(status.progress["workers"], "actor")
    return f"{status.in_flight} in flight on {actors}, {status.waiting} waiting"


def _troubles(status: Status) -> tuple[str, str]:
    progress = status.progress
    damage = damage_text(progress.get("truncated", 0), progress.get("damaged", 0))
    failed = status.failed + progress.get("unreadable", 0)
    return damage, failures_text(failed, progress.get("quarantined", 0))
