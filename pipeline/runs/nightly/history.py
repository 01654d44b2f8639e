"""The append-only history of nights: OUTPUT/nights/NIGHT/attempt-001/, every object created once."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.paths import NIGHTS, attempt_dir, night_page_path, night_report_path, progress_path
from pipeline.views.night import Night

NIGHTS_SEARCHED = 5
"""Earlier nights among which one with the bad rows of its manifests is searched."""
_ATTEMPT = re.compile(r"attempt-(\d{3,})")
_NIGHT = re.compile(r"\d{4}-\d{2}-\d{2}")


def claim(store: Store, night: str, record: dict[str, Any]) -> int:
    """Begin an attempt at a night; returns its number. Concurrent attempts get different numbers."""
    number = max(_numbers(store, night), default=0) + 1
    claimed = _json({**record, "claim": uuid.uuid4().hex})  # equal records of two attempts would count as one
    while not store.commit_once(f"{attempt_dir(night, number)}/started.json", claimed):
        number += 1
    return number


def note_run(store: Store, night: str, number: int, run_id: str) -> None:
    """Record the run of an attempt, so that the work of a killed attempt is counted."""
    store.commit_once(f"{attempt_dir(night, number)}/run.json", _json({"run_id": run_id}))


def finish(store: Store, night: str, number: int, record: dict[str, Any]) -> None:
    """Add the report of an attempt to the history, and make it the newest of the night; the last writer wins."""
    store.commit_once(f"{attempt_dir(night, number)}/report.json", _json(record))
    store.put(night_report_path(night), _json(record))


def add_page(store: Store, night: str, number: int, page: Callable[[str], str]) -> None:
    """Add the page of an attempt that has a report.

    `page` makes it from the relative address of the output, which differs: the night has the page of its last attempt.
    """
    store.commit_once(f"{attempt_dir(night, number)}/report.html", page("../../../").encode())
    store.put(night_page_path(night), page("../../").encode())


def read_attempts(store: Store, night: str) -> list[dict[str, Any]]:
    """The reports of a night's attempts in order; without a report its run_id and the progress of the run."""
    paths = {entry.path for entry in store.list(f"{NIGHTS}/{night}")}
    found = []
    for number in _numbers_of(paths):
        folder = attempt_dir(night, number)
        if f"{folder}/report.json" in paths:
            found.append(json.loads(store.read(f"{folder}/report.json")))
        else:
            known = [path for name in ("started", "run") if (path := f"{folder}/{name}.json") in paths]
            begun: dict[str, Any] = {}
            for path in known:
                begun |= json.loads(store.read(path))
            progress = _progress(store, begun.get("run_id"))
            found.append({**begun, "night": night, "attempt": number, "unfinished": True, **progress})
    return found


def read_nights(store: Store, *, before: str, count: int) -> list[Night]:
    """The last `count` nights before this one that have a history, oldest first."""
    names = [name for name in store.list_dirs(NIGHTS) if _NIGHT.fullmatch(name) and name < before]
    return [total(name, read_attempts(store, name)) for name in sorted(names)[-count:]] if count else []


def bad_rows_before(store: Store, night: str) -> dict[str, Any]:
    """The report of the last night before this one that read its manifests; empty if there is none."""
    names = [name for name in store.list_dirs(NIGHTS) if _NIGHT.fullmatch(name) and name < night]
    for name in sorted(names)[-NIGHTS_SEARCHED:][::-1]:
        data = store.read_or_none(night_report_path(name))
        if data and "bad_row_count" in (report := json.loads(data)):
            return dict(report)
    return {}


def total(night: str, attempts: Sequence[dict[str, Any]]) -> Night:
    """The sums over the attempts of a night."""
    sums: Counter[str] = Counter()
    for attempt in attempts:
        for name in ("labelled", "frames", "masks", "gpu_hours"):
            sums[name] += attempt.get(name, 0)
        sums["seconds"] += attempt.get("labelling_s") or attempt.get("seconds", 0)
    costs = [attempt["cost"] for attempt in attempts if attempt.get("cost") is not None]
    ended = [attempt for attempt in attempts if not attempt.get("unfinished")]
    counted = [attempt for attempt in ended if not attempt.get("error")]
    last, counts = (ended[-1] if ended else {}), (counted[-1] if counted else {})
    return Night(
        night=night,
        attempts=len(attempts),
        labelled=int(sums["labelled"]),
        failed=counts.get("failed", 0) + counts.get("quarantined", 0),
        new_failures=counts.get("new_failures", counts.get("failed", 0)),
        left=counts.get("left", 0),
        frames=int(sums["frames"]),
        masks=int(sums["masks"]),
        seconds=float(sums["seconds"]),
        gpu_hours=float(sums["gpu_hours"]),
        cost=sum(costs) if costs else None,
        unfinished=len(attempts) - len(ended),
        error=last.get("error"),
        exit_code=last.get("exit_code"),
    )


def _progress(store: Store, run_id: str | None) -> dict[str, Any]:
    """The work of an unfinished attempt's run, from its last progress.json."""
    try:
        data = store.read_or_none(progress_path(run_id)) if run_id else None
    except StorageError:
        return {}
    found = json.loads(data) if data else {}
    return {
        "labelled": int(found.get("done", 0)),
        "frames": int(found.get("frames", 0)),
        "masks": int(found.get("masks", 0)),
        "seconds": max(0.0, found.get("now", 0.0) - (found.get("first_frame") or found.get("started", 0.0))),
        "gpu_hours": float(found.get("gpu_hours") or found.get("actor_hours") or 0.0),
    }


def _numbers(store: Store, night: str) -> list[int]:
    return _numbers_of({entry.path for entry in store.list(f"{NIGHTS}/{night}")})


def _numbers_of(paths: set[str]) -> list[int]:
    found = (_ATTEMPT.fullmatch(path.split("/")[2]) for path in paths if path.count("/") == 3)
    return sorted({int(match[1]) for match in found if match})


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1).encode()
