"""Publication by hand: history, runs, rollbacks, and how long later runs leave them alone."""

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
from pipeline.storage.paths import run_path
from pipeline.tables import expire_parts, publish, publish_without_staged
from pipeline.tables.changes import preview
from pipeline.tables.expiry import EndedRollback
from pipeline.tables.forget import forget
from pipeline.tables.pins import next_run_name, read_pins, remove_pins, write_pin
from pipeline.tables.publications import read_history
from pipeline.tables.rollback import select_rollback, select_run
from pipeline.tables.staged import open_staged
from pipeline.tables.wanted import drop_state
from tests.tables.corpora import check, commit, key, want

OLD = {"a": key("old a"), "b": key("old b")}
NEW = {"a": key("new a"), "b": key("new b")}


def run(store: Store, keys: dict[str, str], *, model: str, published: bool = True) -> str:
    """Record a run that wants these labels, and commit them; returns its name."""
    name = next_run_name(store)
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key, run_id=name, weights_digest=model)
    want(store, name, keys)
    record = {"weights_digest": model, "configuration": {"publish": published, "parameters": {}, "model": model}}
    store.put(run_path(name), json.dumps(record).encode())
    return name


@pytest.fixture
def upgraded(local: Store) -> Store:
    """Two videos labelled with one model, published; then labelled with another one, staged, and published by hand."""
    run(local, OLD, model="v1")
    publish(local)
    publish_run(local, run(local, NEW, model="v2", published=False))
    return local


def runs_of(store: Store) -> list[str]:
    return list(store.list_dirs("runs"))


def publish_run(store: Store, name: str) -> None:
    write_pin(store, select_run(store, name).pin)
    publish_without_staged(store)


def roll_back(store: Store, to: str | None = None) -> None:
    selected = select_rollback(store, to)
    assert selected
    write_pin(store, selected.pin)
    publish_without_staged(store)


def shown(store: Store) -> list[tuple[str, dict[str, int]]]:
    return [(each.kind, dict(each.shows)) for each in read_history(store).publications]


def test_a_publishing_run_publishes_no_staged_labels_of_other_runs(local: Store) -> None:
    run(local, OLD, model="v1")
    publish(local)
    run(local, NEW, model="v2", published=False)
    run(local, {"c": key("c")}, model="v1")
    assert publish_without_staged(local).videos == 1
    assert publish_without_staged(local).videos == 0
    check(local, OLD | {"c": key("c")})
    drop_state(local)
    assert publish_without_staged(local).videos == 0
    publish(local)
    check(local, NEW | {"c": key("c")})
    drop_state(local)  # the record of the publication says that run 2 is not staged any more
    assert publish_without_staged(local).videos == 0
    check(local, NEW | {"c": key("c")})


def test_history_says_which_runs_were_shown_after_each_publication(upgraded: Store) -> None:
    roll_back(upgraded)
    one, two = runs_of(upgraded)[0], runs_of(upgraded)[1]
    assert shown(upgraded) == [("publish", {one: 2}), ("run", {two: 2}), ("rollback", {one: 2})]
    first, second, third = read_history(upgraded).publications
    assert (first.new, first.runs, first.version) == (2, (one,), None)
    assert (second.replaced, second.target) == (2, two)
    assert (third.returned, third.target) == (2, str(first.number))
    check(upgraded, OLD)


def test_the_next_night_does_not_undo_a_rollback(upgraded: Store) -> None:
    roll_back(upgraded)
    newer = {"a": key("corrected a, new model"), "b": NEW["b"], "c": key("c")}
    run(upgraded, newer, model="v2")
    done = publish_without_staged(upgraded)
    assert (done.videos, done.withheld) == (1, 2)
    check(upgraded, OLD | {"c": key("c")})
    assert preview(upgraded).changes == ()


def test_a_run_with_the_settings_of_the_pinned_label_ends_its_pin(upgraded: Store) -> None:
    roll_back(upgraded)
    again = {"a": OLD["a"], "b": key("corrected b, old model")}
    run(upgraded, again, model="v1")
    publish_without_staged(upgraded)
    check(upgraded, again)
    assert read_pins(upgraded) == []
    run(upgraded, NEW, model="v2")
    publish_without_staged(upgraded)
    check(upgraded, NEW)


def test_a_run_published_by_hand_stays_while_the_night_has_the_earlier_model(upgraded: Store) -> None:
    run(upgraded, OLD, model="v1")
    assert publish_without_staged(upgraded).withheld == 2
    check(upgraded, NEW)
    remove_pins(upgraded, read_pins(upgraded))
    drop_state(upgraded)
    publish_without_staged(upgraded)
    check(upgraded, OLD)


def test_labels_that_a_rollback_took_back_stay_out_although_the_model_is_the_same(local: Store) -> None:
    run(local, OLD, model="v1")
    publish(local)
    run(local, NEW, model="v1")
    publish(local)
    roll_back(local)
    run(local, NEW, model="v1")
    assert publish_without_staged(local).withheld == 2
    check(local, OLD)
    fixed = {"a": key("fixed a"), "b": key("fixed b")}
    run(local, fixed, model="v1")
    publish_without_staged(local)
    check(local, fixed)


def test_a_stored_pin_is_finished_by_any_later_publication(upgraded: Store) -> None:
    selected = select_rollback(upgraded)
    assert selected
    assert selected.changed == 2
    write_pin(upgraded, selected.pin)  # killed before it published
    publish_without_staged(upgraded)
    check(upgraded, OLD)
    assert [kind for kind, _ in shown(upgraded)] == ["publish", "run", "rollback"]


@pytest.mark.parametrize("last", ["masks", "masklets", "videos"])
def test_a_rollback_killed_between_tables_is_finished_by_the_same_command(upgraded: Store, last: str) -> None:
    selected = select_rollback(upgraded)
    assert selected
    write_pin(upgraded, selected.pin)

    def stop(table: str) -> None:
        if table == last:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        publish(upgraded, after_table=stop)
    if selected := select_rollback(upgraded):
        write_pin(upgraded, selected.pin)
    publish_without_staged(upgraded)
    check(upgraded, OLD)
    assert shown(upgraded)[0] == ("publish", {runs_of(upgraded)[0]: 2})
    assert shown(upgraded)[-1] == ("rollback", {runs_of(upgraded)[0]: 2})


def test_a_rollback_after_a_rollback_changes_nothing_unless_it_names_its_target(upgraded: Store) -> None:
    roll_back(upgraded)
    assert select_rollback(upgraded) is None
    roll_back(upgraded, runs_of(upgraded)[1])
    check(upgraded, NEW)
    roll_back(upgraded, str(read_history(upgraded).publications[0].number))
    check(upgraded, OLD)


def test_videos_that_were_published_later_stay_in_a_rollback(upgraded: Store) -> None:
    run(upgraded, {"c": key("c")}, model="v2")
    publish_without_staged(upgraded)
    selected = select_rollback(upgraded)
    assert selected
    assert (selected.changed, selected.stay) == (2, ("c",))
    roll_back(upgraded)
    check(upgraded, OLD | {"c": key("c")})


def test_a_video_whose_part_expired_keeps_its_label_and_is_named(upgraded: Store) -> None:
    from pipeline.storage import part_path

    upgraded.delete(part_path("a", OLD["a"]))
    selected = select_rollback(upgraded)
    assert selected
    assert (selected.changed, selected.missing) == (1, ("a",))
    upgraded.delete(part_path("b", OLD["b"]))
    with pytest.raises(UsageError, match="cannot be shown again: the parts of 'a', 'b' have expired"):
        select_rollback(upgraded)


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("99", "has no publication 99; the last are"),
        ("nonsense", "has no run 'nonsense'; the last are"),
    ],
)
def test_an_unknown_target_is_refused_with_those_there_are(upgraded: Store, to: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select_rollback(upgraded, to)


def test_an_output_without_replaced_labels_has_nothing_to_go_back_to(local: Store) -> None:
    run(local, OLD, model="v1")
    publish(local)
    with pytest.raises(UsageError, match=r"no publication in .* replaced labels"):
        select_rollback(local)
    name = next_run_name(local)
    want(local, name, {"a": key("nothing")})
    with pytest.raises(UsageError, match=r"no label of run .* is committed"):
        select_run(local, name)


def test_the_preview_names_the_videos_that_would_change_and_why(upgraded: Store) -> None:
    run(upgraded, {"c": key("c")}, model="v2")
    (one,) = preview(upgraded).changes
    assert (one.video_id, one.kind, one.why, one.run_id) == ("c", "appears", "new video", runs_of(upgraded)[2])
    selected = select_rollback(upgraded)
    assert selected
    found = preview(upgraded, pin=selected.pin)
    assert [(each.video_id, each.kind, each.why) for each in found.changes] == [
        ("c", "appears", "new video"),
        ("a", "goes back", "model changed"),
        ("b", "goes back", "model changed"),
    ]
    assert read_history(upgraded).publications[-1].kind == "run"


def test_erased_videos_are_in_no_record_of_publications_or_pins(upgraded: Store) -> None:
    roll_back(upgraded)
    forget(upgraded, ["a"])
    assert all("a" not in pin.rows["video_id"].to_pylist() for pin in read_pins(upgraded))
    assert set(read_history(upgraded).present) == {"b"}
    assert [kind for kind, _ in shown(upgraded)] == ["publish", "run", "rollback"]


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
