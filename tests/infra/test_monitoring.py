"""Rules, dashboard and metrics speak of the same names."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.workers import metrics
from pipeline.workers.scheduler import InFlight, Worker
from tests.infra.queries import dashboard_queries, rules
from tests.infra.tools import INFRA, program

TESTS = INFRA.parent / "tests/infra"
RULE_TESTS = ["rules_test.yml", "rules_days_test.yml"]
NOW = 1_000_000.0


class Recorder:
    """Stands for Ray's counters and gauges: keeps what was recorded, by name and labels."""

    made: dict[str, "Recorder"]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self.tag_keys, self.values, self.calls = tag_keys, {}, 0
        self.default: dict[str, str] = {}
        Recorder.made[name] = self

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.default = tags

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "Ray refuses this"
        self._record(tags, lambda old: old + value)

    def set(self, value: float | None, tags: dict[str, str] | None = None) -> None:
        if value is not None:
            self._record(tags or {}, lambda _: value)

    def _record(self, tags: dict[str, str], change: Any) -> None:
        assert set(tags) | set(self.default) == set(self.tag_keys), "Ray insists on all labels"
        self.calls += 1
        labels = tuple(tags.values())
        self.values[labels] = change(self.values.get(labels, 0.0))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    Recorder.made = {}
    monkeypatch.setattr(metrics, "Counter", Recorder)
    monkeypatch.setattr(metrics, "Gauge", Recorder)
    return Recorder.made


def update(driver: metrics.DriverMetrics, **changes: Any) -> None:
    workers = [Worker("a"), Worker("b", ready=True), Worker("c", ready=True, in_flight={1: InFlight(1, 1.0, 0.0)})]
    driver.update(
        **{
            "labelled": 0,
            "failed": {},
            "waiting": 9,
            "in_flight": 1,
            "workers": workers,
            "starts": 3,
            "deaths": {},
            "quarantined": 2,
            "now": NOW,
            "force": True,
            **changes,
        }
    )


def test_the_driver_reports_its_metrics(recorded: dict[str, Recorder]) -> None:
    driver = metrics.DriverMetrics("r", output="o")
    update(driver, labelled=5, failed={"decode": 2})
    update(driver, labelled=7, failed={"decode": 2, "oom": 1}, deaths={"oom": 1})
    videos = recorded["sam2_videos_total"].values
    assert {labels: round(value, 6) for labels, value in videos.items()} == {
        ("labelled", ""): 7,
        ("failed", "decode"): 2,
        ("failed", "oom"): 1,
        ("failed", "exception"): 0,
    }
    assert recorded["sam2_actors"].values == {("starting",): 1, ("idle",): 1, ("busy",): 1, ("draining",): 0}
    assert recorded["sam2_actor_deaths_total"].values[("oom",)] == pytest.approx(1)
    assert recorded["sam2_videos_waiting"].values == {(): 9}


def test_the_last_video_is_dated_when_it_ends_and_not_later(recorded: dict[str, Recorder]) -> None:
    driver = metrics.DriverMetrics("r", output="o")
    update(driver, now=NOW)
    update(driver, labelled=1, now=NOW + 50)
    update(driver, labelled=1, now=NOW + 4000)
    assert recorded["sam2_last_video_timestamp_seconds"].values == {(): NOW + 50}


def test_a_publish_is_told_again_and_again_for_ray_forgets_gauges(recorded: dict[str, Recorder]) -> None:
    driver = metrics.DriverMetrics("r", output="o")
    update(driver)
    assert recorded["sam2_published_timestamp_seconds"].values == {}
    driver.published(NOW)
    update(driver)
    assert recorded["sam2_published_timestamp_seconds"].values == {(): NOW}
    assert recorded["sam2_published_timestamp_seconds"].calls == 2


def test_a_worker_reports_its_time_by_stage(recorded: dict[str, Recorder]) -> None:
    worker = metrics.WorkerMetrics("r", output="o", lanes=4)
    worker.update({"frames": 10, "masks": 30, "step_s": 3.0, "starved_s": 1.0, "decode_s": 2.0}, force=True)
    worker.update({"frames": 20, "masks": 60, "step_s": 3.0, "starved_s": 1.5, "decode_s": 2.0}, force=True)
    assert recorded["sam2_worker_engine_fallback"].values == {(): 0.0}
    worker.update({"engine_fallback": 1}, force=True)
    assert recorded["sam2_worker_engine_fallback"].values == {(): 1.0}
    stages = {labels[0]: value for labels, value in recorded["sam2_stage_seconds_total"].values.items()}
    assert stages == pytest.approx({"decode": 2, "model": 2, "encode": 0, "commit": 0}, abs=1e-6)
    assert recorded["sam2_starved_seconds_total"].values[()] == pytest.approx(1.5)
    assert recorded["sam2_frames_total"].values[()] == pytest.approx(20)
    assert recorded["sam2_lanes"].values == {(): 4}
    assert recorded["sam2_worker_rss_bytes"].values[()] > 1e6


def test_frequent_updates_are_dropped(recorded: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "EVERY_S", 3600.0)
    worker = metrics.WorkerMetrics("r", output="o", lanes=1)
    for frames in range(1000):
        worker.update({"frames": frames})
    assert recorded["sam2_lanes"].calls == 1


def test_timed_separates_work_from_waiting_for_the_reader() -> None:
    clock = iter([0.0, 3.0, 3.0, 5.0, 5.0, 6.0])  # a step of 3 s, 2 s until the next is asked for, 1 s to find the end
    totals = metrics.Totals()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        assert list(totals.timed(["frame"], "step_s", "blocked_s")) == ["frame"]
    assert totals.values() == {"step_s": 4.0, "blocked_s": 2.0}


def test_timed_closes_what_it_reads_when_it_is_closed() -> None:
    closed = []

    def frames() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    timed = metrics.Totals().timed(frames(), "decode_s")
    next(timed)
    timed.close()
    assert closed


def test_threads_lose_no_count() -> None:
    totals = metrics.Totals()
    threads = [threading.Thread(target=lambda: [totals.add("frames", 1) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals.values() == {"frames": 20_000}


def test_rules_and_dashboard_use_only_existing_metrics(recorded: dict[str, Recorder]) -> None:
    metrics.DriverMetrics("r", output="o")
    metrics.WorkerMetrics("r", output="o", lanes=1)
    exported = {f"ray_{name}" for name in recorded}
    queries = [expression for _, expression in dashboard_queries()] + [rule["expr"] for rule in rules()]
    asked = set(re.findall(r"\bray_sam2_\w+", " ".join(queries)))
    assert asked <= exported
    assert exported <= asked, "a metric that nobody looks at"
    recorded_by_rules = {rule["record"] for rule in rules() if "record" in rule}
    assert set(re.findall(r"\bsam2:\w+:\w+", " ".join(queries))) <= recorded_by_rules


def test_every_alert_has_its_place_in_the_runbook() -> None:
    runbook = (INFRA / "README.md").read_text()
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) == 7
    for alert in alerts:
        assert f"### {alert['alert']}\n" in runbook
        assert alert["annotations"]["runbook"] == f"infra/README.md#{alert['alert'].lower()}"


def test_every_alert_is_tested_firing_and_not_firing() -> None:
    text = "".join((TESTS / name).read_text() for name in RULE_TESTS)
    for alert in (rule["alert"] for rule in rules() if "alert" in rule):
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts: *(#.*)?\n\s+- exp_labels", text), f"{alert} never fires"
        assert f"alertname: {alert}, exp_alerts: []" in text, f"{alert} is never silent"


@pytest.mark.parametrize("name", RULE_TESTS)
def test_rules_fire_and_stay_silent_as_they_should(name: str) -> None:
    promtool = program("promtool", "Debian's prometheus")
    done = subprocess.run([promtool, "test", "rules", name], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration() -> None:
    promtool = program("promtool", "Debian's prometheus")
    path = INFRA / "monitoring/prometheus.yml"
    done = subprocess.run([promtool, "check", "config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_has_no_panel_twice_and_none_without_a_query() -> None:
    panels = json.loads((INFRA / "monitoring/dashboard.json").read_text())["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    for panel in panels:
        assert panel["type"] in ("row", "text") or panel["targets"], panel["title"]
