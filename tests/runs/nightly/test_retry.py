from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs import retry as job
from pipeline.labels.failures import read_failures, write_failure
from pipeline.runs.nightly.retry import chosen, due_at, is_due
from pipeline.storage import Store
from tests.runs.nightly.examples import failure

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
RULES = {"oom": 2 * 86400.0, "deadline": 7 * 86400.0}


@pytest.mark.parametrize(
    ("failure_class", "due"),
    [("oom", True), ("deadline", False), ("decode", False), ("storage", True)],
)
def test_classes_are_due_at_their_age_and_faultless_videos_at_once(failure_class: str, due: bool) -> None:
    assert is_due(failure("cat", failure_class), after_s=RULES, now=NOW) is due


def test_due_means_at_that_moment_and_not_before() -> None:
    when = due_at(failure("cat", "oom"), after_s=RULES)
    assert when == NOW
    assert not is_due(failure("cat", "oom", time="2026-11-20T02:00:01+00:00"), after_s=RULES, now=NOW)
    assert due_at(failure("cat", "decode"), after_s=RULES) is None


def test_failures_are_chosen_by_class_age_and_video() -> None:
    old, new = failure("cat", "oom", time="2026-11-01T00:00:00+00:00"), failure("dog", "oom")
    bad = failure("fox", "decode")
    every = [old, new, bad]
    assert chosen(every, now=NOW) == every
    assert chosen(every, classes={"oom"}, now=NOW) == [old, new]
    assert chosen(every, older_than_s=7 * 86400, now=NOW) == [old]
    assert chosen(every, video_ids={"dog", "fox"}, classes={"oom"}, now=NOW) == [new]


def test_the_command_releases_only_the_requested_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    for each in (failure("cat", "oom"), failure("../dog", "oom"), failure("fox", "decode")):
        write_failure(store, each)
    assert job.main([str(tmp_path)]) == 2
    assert job.main([str(tmp_path), "--class", "oom", "--dry-run"]) == 0
    assert len(read_failures(store)) == 3
    (tmp_path / "ids.txt").write_text("../dog\n")
    assert job.main([str(tmp_path), "--class", "oom", "--video-ids", str(tmp_path / "ids.txt")]) == 0
    assert {each.video_id for each in read_failures(store)} == {"cat", "fox"}
    assert job.main([str(tmp_path), "--class", "oom", "--class", "killed", "--older-than", "1d"]) == 0
    assert {each.video_id for each in read_failures(store)} == {"fox"}
    assert "1 of 2 videos in quarantine will be retried" in capsys.readouterr().out
    assert job.main([str(tmp_path), "--class", "ooom"]) == 0
    assert "failure classes in quarantine: decode" in capsys.readouterr().out
