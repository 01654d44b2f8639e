"""Small manifests, failures and records to test nights with."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels.failures import Failure
from pipeline.manifest import SCHEMA, BadRow, Manifest
from pipeline.runs.config import RunConfig
from pipeline.runs.nightly.report import (
    absent_videos,
    bad_rows_record,
    begin_record,
    end_record,
    run_record,
    union_record,
)
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.nightly.union import join
from pipeline.runs.progress import RunReport


def row(video_id: str, *, uri: str = "", x: float = 5.0, **columns: Any) -> dict[str, Any]:
    """A manifest row with one click."""
    prompt = {"object_id": 1, "frame_index": 0, "points": [{"x": x, "y": 5.0, "label": 1}]}
    return {"video_id": video_id, "video_uri": uri or f"/videos/{video_id}.mp4", "prompts": [prompt], **columns}


def manifest(*rows: dict[str, Any], bad: tuple[str, ...] = ()) -> Manifest:
    """A validated manifest of these rows, and ids of rows that were left out behind them."""
    extra = sorted({name for each in rows for name in each} - set(SCHEMA.names))
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    for name in extra:
        table = table.append_column(name, pa.array([each.get(name) for each in rows]))
    bad_rows = [BadRow(len(rows) + at, video_id, "prompts", "[]", "empty") for at, video_id in enumerate(bad)]
    return Manifest(table=table, rows=np.arange(len(rows)), bad_rows=bad_rows)


def write_manifest(path: Path, *rows: dict[str, Any]) -> None:
    """A manifest as a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def failure(
    video_id: str, failure_class: str = "oom", *, time: str = "2026-11-20T02:00:00+00:00", **given: Any
) -> Failure:
    """A failure record."""
    values = {
        "label_key": "1" * 64,
        "message": "it broke",
        "traceback": "",
        "worker": "worker-0",
        "run_id": "earlier",
        "attempts": [{}],
        **given,
    }
    return Failure(video_id=video_id, failure_class=failure_class, time=time, **values)


def report(**given: Any) -> RunReport:
    """A run's report: one of one videos labelled, unless told otherwise."""
    values: dict[str, Any] = {
        "run_id": "run-1",
        "output": "out",
        "planned": {"labelled": 0, "pending": 1, "quarantined": 0, "unreadable": 0},
        "reasons": {"new video": 1},
        "labelled": 1,
        "failures": [],
        "bad_rows": [],
        "left": 0,
        "frames": 100,
        "masks": 300,
        "seconds": 10.0,
        "actor_hours": 0.5,
        "gpu_hours": 0.5,
        "deaths": {},
        "stopped_by": None,
        "published": None,
        **given,
    }
    return RunReport(**values)


HOSTILE = "<script>alert(1)</script>\"'&\u202e\x1b[31m\u0000%s{x}"

STARTED = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)


def settings(*, output: str = "out", model: str = "embedded", **given: Any) -> NightSettings:
    """nightly.toml as far as tests care."""
    run = RunConfig(manifest="m", output=output, model=model)
    values = {
        "manifests": ("m/*.parquet",), "timezone": "Europe/Berlin", "price_per_gpu_hour": 2.1, "currency": "EUR",
        "retry": {"oom": "7d"}, **given,
    }  # fmt: skip
    return NightSettings(run=run, **values)


def night_record(
    done: RunReport, *, manifests: Any = None, gone: str | None = None, night: str = "2026-11-22", **given: Any
) -> dict[str, Any]:
    """The record of a night's attempt that did this; `gone` is a labelled video that no manifest names."""
    union = join(manifests or (("m/a.parquet", manifest(row("cat"))),))
    labelled = pa.table({"video_id": pa.array([gone] if gone else [], pa.string())})
    chosen = settings(**given)
    record = begin_record(chosen, night=night, started=STARTED, stop_at=None)
    record |= union_record(union, absent_videos(labelled, union)) | run_record(done, chosen)
    record |= bad_rows_record([*union.bad_rows, *done.bad_rows], {})
    return end_record(record, attempt=1, ended=STARTED + timedelta(seconds=done.seconds), error=None)
