"""Three nights on a cluster of real processes, with a node that dies; the pages are kept for a person to look at.

SAM2_CORPUS_NIGHTS=FOLDER keeps each night's page there, and a picture of it where Chromium is installed.
"""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.demo.corpus import make_corpus
from pipeline.manifest import SCHEMA
from pipeline.storage import Store
from pipeline.tables.query import open_labels
from tests.runs.nightly.cluster import Cluster
from tests.s3 import BUCKET, SECRET_KEY, SeaweedFS

pytestmark = pytest.mark.slow

FIRST = ("one-click", "three-together", "leave-and-return", "behind-a-bar", "in-and-out", "box-and-point")
SECOND = ("masks", "refined")
THIRD = ("by-time", "prompted-late")


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    server = SeaweedFS(tmp_path / "s3")
    server.start()
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    yield server
    server.kill()


class World:
    """Videos and manifests in a bucket, a cluster, and the command that submits to it."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.store = Store(f"s3://{BUCKET}")
        make_corpus(folder / "corpus")
        self.rows: dict[str, dict[str, Any]] = {}
        for row in pq.read_table(folder / "corpus" / "manifest.parquet").to_pylist():
            name = row["video_id"]
            self.store.put(f"videos/{name}.mp4", Path(row["video_uri"]).read_bytes())
            self.rows[name] = {**row, "video_uri": f"s3://{BUCKET}/videos/{name}.mp4"}
        self.store.put("videos/broken.mp4", b"this is no video" * 100)
        self.rows["broken"] = {**self.rows["one-click"], "video_id": "broken"}
        self.rows["broken"]["video_uri"] = f"s3://{BUCKET}/videos/broken.mp4"

    def put_manifest(self, date: str, *names: str) -> None:
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([self.rows[name] for name in names], schema=SCHEMA), sink)
        self.store.put(f"manifests/date={date}/videos.parquet", sink.getvalue())

    def configure(self, *, retry: str) -> None:
        (self.folder / "nightly.toml").write_text(
            f'manifests = "s3://{BUCKET}/manifests/date=*/*.parquet"\noutput = "s3://{BUCKET}/labels"\n'
            'timezone = "Europe/Berlin"\nprice_per_gpu_hour = 2.0\ncurrency = "EUR"\n'
            f'[label]\nmodel = "embedded"\ndevice = "cpu"\nactors = 1\n[retry]\nnot_a_video = "{retry}"\n'
        )

    def submit(self, night: str) -> "Submission":
        return Submission(self, night)

    def report(self, night: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.read(f"labels/nights/{night}/report.json"))
        keep_page(self.store, night, found["attempt"])
        return found

    def wait_until(self, what: str, holds: Any, timeout_s: float = 900) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, f"waited {timeout_s} s until {what}"
            time.sleep(0.2)

    def at_work(self) -> bool:
        """Whether a video is in hand and frames have been labelled."""
        found = self.progress()
        return bool(found.get("frames") and found["flights"])

    def progress(self) -> dict[str, Any]:
        runs = self.store.list_dirs("labels/runs")
        data = self.store.read_or_none(f"labels/runs/{runs[-1]}/progress.json") if runs else None
        return json.loads(data) if data else {}


class Submission:
    """One `python -m jobs.submit --follow nightly ...`, whose output is collected."""

    def __init__(self, world: World, night: str) -> None:
        command = [sys.executable, "-m", "jobs.submit", "--address", world.cluster.url, "--follow"]
        self._process = subprocess.Popen(
            [*command, "nightly", "--config", "nightly.toml", "--night", night],
            cwd=world.folder, env=world.cluster.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            print(f"  {self._process.pid} | {line.rstrip()}", flush=True)

    def wait(self, timeout_s: float = 1800) -> int:
        code = self._process.wait(timeout_s)
        self._reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        return code

    @property
    def id(self) -> str:
        return next(line.partition(":")[0] for line in self.lines if line.startswith("nightly-"))


def test_three_nights_on_a_cluster_that_loses_a_node(s3: SeaweedFS, tmp_path: Path) -> None:
    with Cluster(env=s3.env()) as cluster:
        world = World(tmp_path, cluster)
        cluster.add_node("node-1")
        cluster.add_node("node-2")

        # The first night: a second submission follows the first, and the node at work dies with videos in hand.
        world.put_manifest("2026-11-20", *FIRST, "broken")
        world.configure(retry="30d")
        first = world.submit("2026-11-20")
        world.wait_until("the first is submitted", lambda: any(": submitted" in line for line in first.lines))
        second = world.submit("2026-11-20")
        world.wait_until("the node has videos in hand", world.at_work)
        lost = cluster.node_of("ray::Actor")
        cluster.kill(lost)
        print(f"  {lost} is dead", flush=True)
        status = subprocess.run(
            [sys.executable, "-m", "jobs.status", f"s3://{BUCKET}/labels"],
            env=cluster.env, text=True, capture_output=True, check=True,
        )  # fmt: skip
        print(status.stdout)
        assert (first.wait(), second.wait()) == (3, 3)
        assert first.id == second.id
        assert any(line.endswith("is at work on this already") for line in second.lines)
        night = world.report("2026-11-20")
        assert night["reasons"] == {"new video": 7}
        assert (night["labelled"], night["failed_by_class"], night["left"]) == (6, {"not_a_video": 1}, 0)
        assert night["cost"] is None  # no GPU here, and no price of actors
        assert (night["new_failures"], night["known_failures"]) == (1, 0)
        assert any("died (node)" in line for line in first.lines)

        # The second: two more videos, other prompts for one, another file for one, and the failure is due.
        x_changed = json.loads(json.dumps(world.rows["one-click"]))
        x_changed["prompts"][0]["points"][0]["x"] += 1.0
        world.rows["one-click"] = x_changed
        changed = world.store.read("videos/in-and-out.mp4") + struct.pack(">I4s", 8, b"free")
        world.store.put("videos/in-and-out.mp4", changed)
        world.put_manifest("2026-11-21", *SECOND, "one-click")
        world.configure(retry="1s")
        assert world.submit("2026-11-21").wait() == 0  # the failure is known
        night = world.report("2026-11-21")
        assert night["reasons"] == {"new video": 2, "prompts changed": 1, "video changed": 1, "retry due": 1}
        assert (night["labelled"], night["failed_by_class"], night["superseded"]) == (4, {"not_a_video": 1}, 1)
        assert night["planned"]["labelled"] == 4

        # The third: two more, one is removed from its manifest; the failure is not due. Then the same once more.
        world.put_manifest("2026-11-20", *(name for name in FIRST if name != "leave-and-return"), "broken")
        world.put_manifest("2026-11-22", *THIRD)
        world.configure(retry="30d")
        third = world.submit("2026-11-22")
        assert third.wait() == 0
        night = world.report("2026-11-22")
        assert night["reasons"] == {"new video": 2}
        assert (night["labelled"], night["quarantined_by_class"]) == (2, {"not_a_video": 1})
        assert (night["absent"], night["absent_examples"]) == (1, ["leave-and-return"])
        again = world.submit("2026-11-22")
        assert again.wait() == 0
        assert (third.id[-2:], again.id) == ("-1", third.id.removesuffix("-1") + "-2")
        night = world.report("2026-11-22")
        assert (night["attempt"], night["reasons"], night["labelled"], night["failed"]) == (2, {}, 0, 0)

        # Each video stands once in the tables, and neither Ray's dashboard nor any log holds a secret.
        with open_labels(f"s3://{BUCKET}/labels") as labels:
            assert labels.sql("SELECT count(*), count(DISTINCT video_id) FROM videos").fetchall() == [(10, 10)]
        shown = cluster.ask("/api/jobs/")
        jobs = json.loads(shown)
        assert sum(bool(job["submission_id"]) for job in jobs) == 4
        logs = {str(path): path.read_bytes() for path in cluster.folder.glob("**/logs/**/*") if path.is_file()}
        assert any("job-driver-nightly" in path for path in logs)
        for secret in (SECRET_KEY, cluster.env["RAY_AUTH_TOKEN"]):
            assert secret not in shown
            assert not [path for path, log in logs.items() if secret.encode() in log]


def keep_page(store: Store, night: str, attempt: int) -> None:
    """The page and its picture, for a person to look at."""
    if not (folder := os.environ.get("SAM2_CORPUS_NIGHTS")):
        return
    page = Path(folder).absolute() / f"{night}-{attempt}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes(store.read(f"labels/nights/{night}/attempt-{attempt:03}/report.html"))
    if chromium := shutil.which("chromium"):
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--window-size=1000,1700", f"--screenshot={page.with_suffix('.png')}",
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                [chromium, *flags, f"--user-data-dir={profile}", f"file://{page}"],
                check=True, timeout=60, capture_output=True,
            )  # fmt: skip
