import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.nightly import history
from pipeline.storage import Store
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble


def ended(attempt: int, **given: Any) -> dict[str, Any]:
    return {
        "night": "2026-11-22", "attempt": attempt, "labelled": 10, "frames": 100, "masks": 200, "seconds": 5.0,
        "gpu_hours": 0.5, "cost": 1.0, "failed": 1, "quarantined": 2, "left": 3, "error": None, "exit_code": 4, **given,
    }  # fmt: skip


def test_attempts_are_numbered_and_each_object_is_written_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        numbers = sorted(threads.map(lambda _: history.claim(store, "2026-11-22", {}), range(8)))
    assert numbers == list(range(1, 9))
    for labelled, page in ((10, "page one"), (99, "another")):
        history.finish(store, "2026-11-22", 1, ended(1, labelled=labelled))
        history.add_page(store, "2026-11-22", 1, page.__add__)
    folder = tmp_path / "nights" / "2026-11-22" / "attempt-001"
    assert json.loads((folder / "report.json").read_text())["labelled"] == 10
    assert (folder / "report.html").read_text() == "page one../../../"


def test_an_attempt_whose_claim_was_stored_and_not_answered_is_this_one(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[Trouble] = ["lost answer"]
    with Proxy(s3.endpoint, trouble=lambda r: troubles.pop() if troubles and r.startswith("PUT ") else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        assert history.claim(Store(s3.uri), "2026-11-22", {"started": "22:00:00"}) == 1
        assert proxy.troubles["lost answer"] == 1


def test_concurrent_attempts_get_different_numbers(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_numbers", lambda *_: [])  # neither has seen the other
    assert [history.claim(Store(s3.uri), "2026-11-22", {"started": "22:00:00"}) for _ in range(2)] == [1, 2]


def test_the_newest_report_is_directly_below_its_night(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in (1, 2):
        history.claim(store, "2026-11-22", {})
        history.finish(store, "2026-11-22", number, ended(number))
        history.add_page(store, "2026-11-22", number, f"page {number}".__add__)
    assert (tmp_path / "nights/2026-11-22/report.html").read_text() == "page 2../../"
    assert [attempt["attempt"] for attempt in history.read_attempts(store, "2026-11-22")] == [1, 2]


def test_a_killed_attempt_counts_with_its_last_progress(tmp_path: Path) -> None:
    store = Store(tmp_path)
    history.claim(store, "2026-11-22", {})
    history.note_run(store, "2026-11-22", 1, "run-7")
    progress = {"done": 4, "frames": 40.0, "masks": 80.0, "started": 100.0, "now": 160.0, "gpu_hours": 0.25}
    store.put("runs/run-7/progress.json", json.dumps(progress).encode())
    history.claim(store, "2026-11-22", {})
    attempts = history.read_attempts(store, "2026-11-22")
    night = history.total("2026-11-22", attempts)
    assert (night.attempts, night.unfinished, night.labelled, night.gpu_hours, night.seconds) == (2, 2, 4, 0.25, 60)
    assert night.exit_code is None


def test_a_night_sums_its_attempts_and_has_the_last_state() -> None:
    night = history.total("2026-11-22", [ended(1), ended(2, left=0, failed=0, exit_code=3)])
    assert (night.labelled, night.frames, night.gpu_hours, night.cost) == (20, 200, 1.0, 2.0)
    assert (night.left, night.failed, night.exit_code) == (0, 2, 3)
    assert night.frames_per_s == 20


def test_an_attempt_that_failed_does_not_hide_what_the_one_before_left() -> None:
    failed = {"night": "2026-11-22", "attempt": 2, "error": "no manifest", "exit_code": 2}
    night = history.total("2026-11-22", [ended(1), failed])
    assert (night.labelled, night.left, night.error, night.exit_code) == (10, 3, "no manifest", 2)


def test_the_nights_before_are_read_oldest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for day in ("2026-11-19", "2026-11-20", "2026-11-21", "2026-11-22"):
        history.claim(store, day, {})
        history.finish(store, day, 1, ended(1, night=day))
    store.put("nights/notes/readme.txt", b"")
    found = history.read_nights(store, before="2026-11-22", count=2)
    assert [night.night for night in found] == ["2026-11-20", "2026-11-21"]
    assert history.read_nights(store, before="2026-11-22", count=0) == []
