"""The records of an output as tables with columns for the most used fields: failures, runs, publications."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from pipeline.labels import failures as quarantine
from pipeline.storage import Store
from pipeline.storage.paths import RUNS, progress_path, run_path
from pipeline.tables.publications import Publication, read_history

READERS = 32
FAILURE_ROWS = pa.schema(
    [
        ("video_id", pa.string()), ("label_key", pa.string()), ("failure_class", pa.string()),
        ("message", pa.string()), ("attempt_count", pa.int32()), ("worker", pa.string()), ("time", pa.string()),
        ("run_id", pa.string()), ("first_run_id", pa.string()), ("traceback", pa.string()), ("attempts", pa.string()),
    ]
)  # fmt: skip
RUN_ROWS = pa.schema(
    [
        ("run_id", pa.string()), ("started", pa.string()), ("state", pa.string()), ("seconds", pa.float64()),
        ("videos", pa.int64()), ("pending", pa.int64()), ("done", pa.int64()), ("truncated", pa.int64()),
        ("damaged", pa.int64()), ("failed", pa.int64()), ("quarantined", pa.int64()), ("frames_per_s", pa.float64()),
        ("frames", pa.int64()), ("masks", pa.int64()), ("actor_hours", pa.float64()), ("gpu_hours", pa.float64()),
        ("model", pa.string()), ("manifest", pa.string()), ("run", pa.string()), ("progress", pa.string()),
    ]
)  # fmt: skip


def read_failures(store: Store) -> pa.Table:
    """All failure records of an output."""
    rows = []
    for failure in quarantine.read_failures(store):
        record = dataclasses.asdict(failure)
        record |= {"attempt_count": len(failure.attempts), "attempts": json.dumps(failure.attempts)}
        rows.append(record | {"first_run_id": failure.since_run})
    return pa.Table.from_pylist(rows, schema=FAILURE_ROWS)


def read_runs(store: Store) -> pa.Table:
    """All runs of an output, the oldest first."""
    names = store.list_dirs(RUNS)
    runs = _json_records(store, [run_path(name) for name in names])
    progress = _json_records(store, [progress_path(name) for name in names])
    rows = [_run_row(name, run, at) for name, run, at in zip(names, runs, progress, strict=True)]
    return pa.Table.from_pylist(rows, schema=RUN_ROWS)


def read_publications(store: Store) -> list[dict[str, Any]]:
    """What the tables showed after each publication, the oldest first: one row for each run whose labels they showed.

    version is that of the Delta table videos before the publication; new, replaced and went_back count its videos.
    """
    publications = read_history(store).publications
    models = read_models(store, sorted({run for each in publications for run in each.shows}))
    return [
        {
            "number": each.number,
            "at": each.at,
            "what": _what(each),
            "new": each.new,
            "replaced": each.replaced,
            "went_back": each.returned,
            "version": each.version,
            "shows_run": run,
            "videos": videos,
            "model": models.get(run),
        }
        for each in publications
        for run, videos in each.shows.items()
    ]


def _what(publication: Publication) -> str:
    match publication.kind:
        case "run":
            return f"run {publication.target} by hand"
        case "rollback":
            return f"rollback to {publication.target}"
        case "publish":
            return "publish"
    return "before records"


def read_models(store: Store, runs: Sequence[str]) -> dict[str, str | None]:
    """The model of each of these runs, as it was given; None if the run's record is absent."""
    records = _json_records(store, [run_path(run) for run in runs])
    return {run: (record.get("configuration") or {}).get("model") for run, record in zip(runs, records, strict=True)}


def _run_row(name: str, run: Mapping[str, Any], progress: Mapping[str, Any]) -> dict[str, Any]:
    configuration = run.get("configuration") or {}
    failed, now, started = (progress.get(key) for key in ("failed", "now", "started"))
    return {
        "run_id": name,
        "started": run.get("started"),
        "state": progress.get("state"),
        "seconds": now - started if now and started else None,
        "frames_per_s": progress.get("rate"),
        **{name: progress.get(name) for name in ("truncated", "damaged", "quarantined")},
        "videos": run.get("videos"),
        "pending": run.get("pending"),
        "done": progress.get("done"),
        "failed": sum(failed.values()) + progress.get("unreadable", 0) if failed is not None else None,
        "frames": _whole(progress.get("frames")),
        "masks": _whole(progress.get("masks")),
        "actor_hours": progress.get("actor_hours"),
        "gpu_hours": progress.get("gpu_hours"),
        "model": configuration.get("model"),
        "manifest": configuration.get("manifest"),
        "run": json.dumps(run) if run else None,
        "progress": json.dumps(progress) if progress else None,
    }


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _json_records(store: Store, paths: Sequence[str]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(READERS) as threads:
        return [json.loads(data) if data else {} for data in threads.map(store.read_or_none, paths)]
