"""The commands of an upgrade: publish by run, rollback, unpin, history; staged labels, expiry and kills."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from jobs import doctor as doctor_job
from jobs import history as history_job
from jobs import publish as publish_job
from pipeline.errors import UsageError
from pipeline.storage import Store
from pipeline.tables import expire_parts, publish, publish_without_staged
from pipeline.tables.expiry import EndedRollback
from pipeline.tables.pins import read_pins
from pipeline.tables.staged import open_staged
from pipeline.tables.wanted import drop_state
from tests.tables.corpora import check, key
from tests.tables.upgrades import NEW, OLD, publish_run, roll_back, run, runs_of, shown


def command(store: Store, capsys: pytest.CaptureFixture[str], job: Any, *options: str, code: int = 0) -> str:
    """What a command prints."""
    assert job.main([store.uri, *options]) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_unpinned_tables_follow_the_last_run_again_but_no_staged_one(upgraded, capsys) -> None:
    command(upgraded, capsys, publish_job, "--rollback")
    run(upgraded, {"a": key("third a")}, model="v3", published=False)
    said = command(upgraded, capsys, publish_job, "--unpin", "--dry-run")
    assert "2 would change: model changed" in said
    assert "pinned: rollback to publication 1 at 20" in said
    assert "removed 1 pin\npublished 2 videos" in command(upgraded, capsys, publish_job, "--unpin")
    check(upgraded, NEW)


def test_the_commands_answer_in_lines_or_in_json(upgraded, capsys) -> None:
    command(upgraded, capsys, publish_job, "--rollback")
    table = command(upgraded, capsys, history_job)
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["1", "2", "3"]
    assert "rollback to 1" in table
    assert table.splitlines()[-1].startswith("pinned: rollback to publication 1 at ")
    rows = [json.loads(line) for line in command(upgraded, capsys, history_job, "--json").splitlines()]
    assert [(row["number"], row["new"], row["replaced"], row["went_back"], row["videos"]) for row in rows] == [
        (1, 2, 0, 0, 2),
        (2, 0, 2, 0, 2),
        (3, 0, 0, 2, 2),
    ]
    options = ["--rollback", "--to", runs_of(upgraded)[1], "--dry-run", "--json"]
    changes = [json.loads(line) for line in command(upgraded, capsys, publish_job, *options).splitlines()]
    assert [(row["video_id"], row["kind"], row["why"]) for row in changes] == [
        ("a", "changes", "model changed"),
        ("b", "changes", "model changed"),
    ]


@pytest.mark.parametrize(
    "options", [["--to", "1"], ["--json"], ["--dry-run", "--optimize"], ["--rollback", "--to", "9"]]
)
def test_options_that_do_not_fit_are_one_line(upgraded, capsys, options) -> None:
    assert command(upgraded, capsys, publish_job, *options, code=2).startswith("error: ")


def test_what_an_earlier_release_published_can_be_shown_again(upgraded: Store) -> None:
    upgraded.delete_many([entry.path for entry in upgraded.list("publish/history")])
    for path in [entry.path for entry in upgraded.list("publish/pins")]:
        upgraded.delete(path)
    drop_state(upgraded)
    newest = {"a": key("newest a"), "b": key("newest b")}
    run(upgraded, newest, model="v3")
    publish(upgraded)
    assert shown(upgraded)[0] == ("before records", {runs_of(upgraded)[1]: 2})
    roll_back(upgraded)
    check(upgraded, NEW)


def test_expiry_keeps_staged_and_pinned_labels_and_names_ended_rollbacks(upgraded: Store) -> None:
    run(upgraded, {"a": key("third a")}, model="v3", published=False)
    run(upgraded, OLD | {"b": key("corrected b")}, model="v2")
    publish_without_staged(upgraded)  # a keeps its pinned label; OLD is wanted and stays, too
    ended: list[EndedRollback] = []
    expire_parts(upgraded, older_than_s=-3600, now=time.time(), announce=ended.extend)
    assert [(each.publication.number, each.videos) for each in ended] == [(1, 1), (2, 1)]
    left = {path.rpartition("/")[2] for path in (entry.path for entry in upgraded.list("parts"))}
    assert left == {f"{each}.parquet" for each in (OLD["a"], key("third a"))}


def test_staged_labels_are_read_from_their_parts(store: Store) -> None:
    run(store, OLD, model="v1")
    publish(store)
    first = run(store, NEW, model="v2", published=False)
    last = run(store, {"b": key("third b"), "c": OLD["a"]}, model="v3", published=False)
    joined = "masks JOIN masklets USING (video_id, object_id)"
    keys = f"SELECT video_id, min(masks.label_key), count(*), min(category) FROM {joined} GROUP BY 1 ORDER BY 1"
    with open_staged(store) as labels:
        assert labels.sql(keys).fetchall() == [
            (video_id, label_key, 10, "cat")
            for video_id, label_key in {"a": NEW["a"], "b": key("third b"), "c": OLD["a"]}.items()
        ]
        assert labels.sql("SELECT count(*) FROM masks WHERE video_id BETWEEN 'b' AND 'b'").fetchall() == [(10,)]
    with open_staged(store, run=first) as labels:
        assert labels.sql("SELECT video_id, weights_digest FROM videos ORDER BY 1").fetchall() == [
            ("a", "v2"),
            ("b", "v2"),
        ]
    publish_run(store, last)
    check(store, {"a": OLD["a"], "b": key("third b"), "c": OLD["a"]})
    with pytest.raises(UsageError, match=r"run .* has no committed labels in .* that the tables do not show"):
        open_staged(store, run=last)
    with pytest.raises(UsageError, match=r"has no run 'x'; the last are"):
        open_staged(store, run="x")


def test_a_rollback_command_that_is_killed_once_it_decided_is_finished_by_the_next(upgraded, capsys) -> None:
    command_line = [sys.executable, "-m", "jobs.publish", upgraded.uri, "--rollback"]
    with subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while len(read_pins(upgraded)) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert len(read_pins(upgraded)) >= 2
    command(upgraded, capsys, publish_job, "--rollback")
    check(upgraded, OLD)
    assert shown(upgraded)[-1] == ("rollback", {runs_of(upgraded)[0]: 2})
    assert doctor_job.main([upgraded.uri]) == 0
