import json
import time
from pathlib import Path
from typing import Any

import pytest

from jobs import status as job
from pipeline.errors import UsageError
from pipeline.runs.nightly.status import Status, lines, read_status
from pipeline.runs.progress import Progress
from pipeline.storage import Store
from pipeline.tables.output import claim_output
from pipeline.views.words import duration
from tests.runs.nightly.examples import HOSTILE


def progress(**given: Any) -> Progress:
    values: dict[str, Any] = {
        "run_id": "r2", "videos": 100, "frames_expected": 12000.0, "first_frame": 1000.0, "started": 1000.0,
        "now": 1600.0, "done": 40, "failed": {"oom": 2, "decode": 1}, "workers": 4, "deaths": {"node": 2},
        "frames": 6000, "masks": 18000,
        "actor_hours": 0.5, "gpu_hours": 0.5, "in_flight": 2,
        "flights": [
            {"video_id": "young", "worker": "worker-0 on a", "started": 1590.0},
            {"video_id": "old", "worker": "worker-1 on b", "started": 1200.0},
        ],
        **given,
    }  # fmt: skip
    return Progress(**values)


def status(**given: Any) -> Status:
    found = progress(**given)
    return Status(run_id=found.run_id, progress=json.loads(found.to_json()))


def test_the_status_counts_done_in_flight_failed_and_waiting_videos() -> None:
    assert lines(status(), now=1605.0) == [
        "run r2: running after 10 min 00 s, last update 5 s ago",
        "40 of 100 videos done, 3 failed, 2 in flight on 4 actors, 55 waiting",
        "10.0 frames/s, 30.0 masks/s, 240 videos/h, 0.50 GPU hours, ETA 10 min 00 s",
        "  failed:      1 decode",
        "  failed:      2 oom",
        "  workers lost: 2 (node)",
        "  in flight: 6 min 45 s  'old' on worker-1 on b",
        "  in flight:      15 s  'young' on worker-0 on a",
    ]


def test_a_run_without_updates_is_silent_unless_it_has_ended() -> None:
    assert status().state(1659.0) == "running"
    assert status().state(1661.0) == "silent"
    ended = status(state="ended", in_flight=0, flights=[], truncated=1, damaged=2, quarantined=4, unreadable=1)
    assert ended.state(99999.0) == "ended"
    assert lines(ended, now=99999.0)[1] == (
        "40 of 100 videos done, 1 truncated, 2 damaged, 4 failed, 4 in quarantine since earlier runs, 57 left"
    )
    assert "ETA" not in "".join(lines(status(), now=2000.0))


def test_only_the_oldest_in_flight_videos_are_listed_with_escaped_names() -> None:
    many = [{"video_id": HOSTILE, "worker": "w", "started": 1000.0 + at} for at in range(30)]
    found = lines(status(flights=many, in_flight=2000), now=1605.0, flights=3)
    assert found[-1] == "  and 1997 more in flight, assigned later"
    assert all(line.isprintable() for line in found)


def test_progress_of_earlier_versions_is_read() -> None:
    earlier = status()
    assert Status(run_id="r", progress={**earlier.progress, "in_flight": 7}).in_flight == 7
    without = {name: value for name, value in earlier.progress.items() if name != "in_flight"}
    assert Status(run_id="r", progress={**without, "in_hand": 5}).in_flight == 5
    assert Status(run_id="r", progress=without).in_flight == 2


def test_the_newest_run_that_began_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    with pytest.raises(UsageError, match="no run that labelled anything"):
        read_status(store)
    claim_output(store)
    for name in ("r1", "r2"):
        store.put(f"runs/{name}/progress.json", progress(run_id=name, now=time.time()).to_json())
    store.put("runs/r3/run.json", b"{}")
    assert read_status(store).run_id == "r2"
    assert read_status(store, run_id="r1").run_id == "r1"
    with pytest.raises(UsageError, match="no run 'r9'; the last are r1, r2, r3"):
        read_status(store, run_id="r9")
    with pytest.raises(UsageError, match="run r3 labelled nothing"):
        read_status(store, run_id="r3")
    assert job.main([str(tmp_path), "--run", "r1"]) == 0
    assert capsys.readouterr().out.startswith("run r1: running")
    assert job.main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    assert job.main([str(tmp_path), "--run", "x"]) == 2


def test_runs_without_pending_videos_do_not_hide_an_earlier_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name, videos in (("r1", 3), ("r2", 0), ("r3", 0)):
        ended = progress(run_id=name, videos=videos, state="ended", in_flight=0, flights=[])
        store.put(f"runs/{name}/progress.json", ended.to_json())
    found = read_status(store)
    assert (found.run_id, found.idle_since) == ("r1", 2)
    assert "2 later runs had nothing to label; the last: r3, 5 s ago" in lines(found, now=1605.0)
    assert read_status(store, run_id="r3").run_id == "r3"


def test_durations_have_two_units() -> None:
    assert [duration(s) for s in (0, 59.6, 3599, 3660, 90000)] == [
        "0 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 01 min",
        "1 d 1 h",
    ]
