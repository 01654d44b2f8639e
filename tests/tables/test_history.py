"""Publication by hand: history, runs, rollbacks, and how long later runs leave them alone."""

import pytest

from pipeline.errors import UsageError
from pipeline.storage import Store, part_path
from pipeline.tables import publish, publish_without_staged
from pipeline.tables.changes import preview
from pipeline.tables.forget import forget
from pipeline.tables.pins import next_run_name, read_pins, remove_pins, write_pin
from pipeline.tables.publications import read_history
from pipeline.tables.rollback import select_rollback, select_run
from pipeline.tables.wanted import drop_state
from tests.tables.corpora import check, key, want
from tests.tables.upgrades import NEW, OLD, roll_back, run, runs_of, shown


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
    run(upgraded, {"c": key("c")}, model="v2")
    publish_without_staged(upgraded)
    assert select_rollback(upgraded) is None
    forget(upgraded, ["c"])
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
