"""A real Prometheus over a real Ray cluster of two nodes: every query of the dashboard and of the rules is answered."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.corpus import make_corpus
from tests.infra.queries import dashboard_queries, rules
from tests.infra.tools import INFRA, program

pytestmark = pytest.mark.slow

NEEDS_A_GPU = "ray_node_gpus_utilization"
NEEDS_A_VIDEO_LONG_AGO = "offset 1d"
RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    """Outside the range that Ray's workers take."""
    while True:
        port = 20000 + secrets.randbelow(8000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _start_node(command: list[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """A Ray node, once it says that it runs; it may need a second try while the head is still coming up."""
    for _ in range(3):
        with log.open("w") as output:
            node = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + 90
        while node.poll() is None and time.monotonic() < deadline:
            if "Ray runtime started" in log.read_text():
                return node
            time.sleep(0.5)
        node.kill()
        node.wait()
    raise RuntimeError(f"{command} did not start:\n{log.read_text()[-3000:]}")


class Prometheus:
    """One Prometheus on 127.0.0.1, with this repository's rules."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.port = free_port()
        shutil.copy(INFRA / "monitoring/rules.yml", folder / "rules.yml")
        (folder / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "3s", "evaluation_interval": "3s"},
                    "rule_files": ["rules.yml"],
                    "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": targets}]}],
                }
            )
        )
        self.process = subprocess.Popen(
            [
                program("prometheus", "Debian's prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        return [float(each["value"][1]) for each in self.get("query", query=expression)["result"]]


@dataclass(frozen=True)
class Seen:
    """What there is to look at after two jobs: one of naps, in all numbers known, and a real one."""

    prometheus: Prometheus
    printed: str
    output: str
    driver_log: str
    worker_logs: str


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Prometheus while a job runs, and what the job printed; 1.5 minutes of work."""
    program("prometheus", "Debian's prometheus")
    folder = tmp_path_factory.mktemp("live")
    short = Path(f"/tmp/r{os.getpid()}")  # sockets lie in it, and their names may have 107 characters
    gcs, metrics = free_port(), [free_port(), free_port()]
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_ADDRESS": f"127.0.0.1:{gcs}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(INFRA.parent),
        "SAM2_CORPUS_LOGS": "json",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # the tests' own Ray sets 0, and no second node could join
    }
    head = ["--head", f"--port={gcs}", "--num-cpus=0", "--include-dashboard=false"]
    node = [f"--address=127.0.0.1:{gcs}", "--num-cpus=2"]
    start = [RAY, "start", "--block", "--node-ip-address=127.0.0.1", f"--temp-dir={short}"]
    start += ["--object-store-memory=100000000", "--disable-usage-stats"]
    nodes: list[subprocess.Popen[bytes]] = []
    prometheus = None
    try:
        for number, options in enumerate((head, node)):
            command = [*start, f"--metrics-export-port={metrics[number]}", *options]
            without = {name: value for name, value in environment.items() if name != "RAY_ADDRESS"}
            nodes.append(_start_node(command, without, folder / f"node{number}.log"))
        prometheus = Prometheus(folder, [f"127.0.0.1:{port}" for port in metrics])
        job = subprocess.run(
            [sys.executable, "-m", "tests.infra.job_with_metrics", "40"],
            env=environment,
            cwd=INFRA.parent,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert job.returncode == 0, f"{job.stderr[-3000:]}\n{(folder / 'node1.log').read_text()[-2000:]}"
        make_corpus(folder / "corpus")
        corpus = ["--manifest", f"{folder}/corpus/manifest.parquet", "--output", f"{folder}/labels"]
        real = subprocess.run(
            [sys.executable, "-m", "jobs.label", *corpus, "--model", "embedded", "--actors", "2"],
            env=environment,
            cwd=INFRA.parent,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert real.returncode == 0, real.stderr[-3000:]
        time.sleep(15)  # Ray reports every ten seconds
        found = (short / "session_latest/logs").glob("worker-*.err")
        logs = "".join(path.read_text() for path in found)
        yield Seen(prometheus, job.stdout, f"{folder}/labels", real.stderr, logs)
    finally:
        for process in [*([prometheus.process] if prometheus else []), *reversed(nodes)]:
            process.terminate()
        for process in [*([prometheus.process] if prometheus else []), *nodes]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(short, ignore_errors=True)


def test_every_query_of_the_dashboard_is_answered(scraped: Seen) -> None:
    prometheus = scraped.prometheus
    unanswered = []
    for title, expression in dashboard_queries():
        values = prometheus.values(expression)
        print(f"{title}: {expression} = {[round(value, 3) for value in values][:6]}")
        if not values and NEEDS_A_GPU not in expression:
            unanswered.append(f"{title}: {expression}")
    assert not unanswered


def test_every_rule_is_evaluated_and_recorded(scraped: Seen) -> None:
    prometheus = scraped.prometheus
    found = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in found} == dict.fromkeys([r["name"] for r in found], "ok")
    recorded = {rule["record"]: prometheus.values(rule["record"]) for rule in rules() if "record" in rule}
    print(recorded)
    assert all(recorded.values())


def test_counts_are_those_the_job_printed(scraped: Seen) -> None:
    """Also what the driver said in its last second, and what a worker did that died: counters outlive their process."""
    prometheus, printed = scraped.prometheus, scraped.printed
    print(printed)
    said = next(line for line in printed.splitlines() if line.startswith("labelled "))
    labelled, failed, deaths = (int(word) for word in said.split()[1::2])
    own = 'run_id="run-1"'  # the cluster also holds the counts of a real run
    seen = {
        "labelled": sum(prometheus.values(f'ray_sam2_videos_total{{outcome="labelled",{own}}}')),
        "failed": sum(prometheus.values(f'ray_sam2_videos_total{{outcome="failed",{own}}}')),
        "deaths": sum(prometheus.values(f"ray_sam2_actor_deaths_total{{{own}}}")),
        "frames": sum(prometheus.values(f"ray_sam2_frames_total{{{own}}}")),
    }
    print(seen)
    wanted = {"labelled": labelled, "failed": failed, "deaths": deaths, "frames": 10 * labelled}
    frames, wanted_frames = seen.pop("frames"), wanted.pop("frames")
    assert seen == pytest.approx(wanted, abs=0.01)
    assert 0.6 * wanted_frames < frames < wanted_frames + 1  # a worker's last ten seconds may go with it


def test_the_last_publish_is_kept_after_the_driver_ended(scraped: Seen) -> None:
    prometheus = scraped.prometheus
    ages = prometheus.values("time() - sam2:published_timestamp_seconds:last")
    assert ages
    assert max(ages) < 1800, "the publish at the run's end was not seen"


def test_a_real_run_reports_its_metrics(scraped: Seen) -> None:
    """`jobs.label` over the demo corpus of ten videos."""
    prometheus, output = scraped.prometheus, f'{{output="{scraped.output}"}}'
    labelled = prometheus.values(f'ray_sam2_videos_total{{output="{scraped.output}",outcome="labelled"}}')
    assert sum(labelled) == pytest.approx(10, abs=0.01)
    frames = sum(prometheus.values(f"ray_sam2_frames_total{output}"))
    model = sum(prometheus.values(f'ray_sam2_stage_seconds_total{{output="{scraped.output}",stage="model"}}'))
    print(f"frames {frames:.0f}, model {model:.1f} s")
    assert frames > 0
    assert model > 0


def test_its_logs_are_json(scraped: Seen) -> None:
    for line in scraped.driver_log.splitlines():
        assert json.loads(line)["message"]
