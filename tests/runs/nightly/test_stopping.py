"""Nights that end before their work does, on real actors: what is in hand is saved, the rest stays pending."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import nightly
from pipeline.demo.corpus import make_corpus
from pipeline.runs.nightly.clock import night_of, zone_of
from pipeline.storage import Store
from tests.runs.nightly.examples import write_manifest

pytestmark = pytest.mark.slow

COPIES = 40  # more than a stop leaves time for


def test_a_night_stopped_by_budget_or_time_continues_in_another_attempt(tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus")
    rows = pq.read_table(tmp_path / "corpus" / "manifest.parquet").to_pylist()
    copies = [{**row, "video_id": f"{row['video_id']}-{at}"} for at in range(COPIES) for row in rows]
    write_manifest(tmp_path / "manifests" / "videos.parquet", *copies)
    (tmp_path / "nightly.toml").write_text(
        f'manifests = "{tmp_path}/manifests/*.parquet"\noutput = "{tmp_path}/labels"\n'
        '[label]\nmodel = "embedded"\ndevice = "cpu"\nactors = 1\n'
    )
    store, night = Store(tmp_path / "labels"), night_of(datetime.now(UTC), zone_of("UTC"))

    def attempt(*options: str) -> dict[str, Any]:
        assert nightly.main(["--config", f"{tmp_path}/nightly.toml", "--night", night, *options]) == 4
        report: dict[str, Any] = json.loads(store.read(f"nights/{night}/report.json"))
        names = ("attempt", "stopped_by", "labelled", "left", "failed", "frames", "seconds", "gpu_hours")
        begun = [entry.path for entry in store.list("checkpoints") if entry.path.endswith(".state")]
        print({name: report[name] for name in names}, len(begun), "checkpoints")
        return report

    first = attempt("--budget-gpu-hours", "0.02")
    assert (first["stopped_by"], first["failed"], first["error"]) == ("budget", 0, None)
    assert first["labelled"] + first["left"] == len(copies)
    assert first["gpu_hours"] >= 0.02

    stop = (datetime.now(UTC) + timedelta(seconds=100)).strftime("%H:%M")
    second = attempt("--stop-at", stop)
    assert (second["attempt"], second["stopped_by"], second["failed"]) == (2, "stop-at", 0)
    assert second["planned"]["labelled"] == first["labelled"]
    assert first["labelled"] + second["labelled"] + second["left"] == len(copies)
    assert len(list(store.list("parts"))) == first["labelled"] + second["labelled"]
