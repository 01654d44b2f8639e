"""Readers see the three tables as of one moment, however many commits are made while they open them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from deltalake import DeltaTable

from pipeline.storage import Store
from pipeline.tables import delete_videos, drop_history, optimize, publish, snapshot, vacuum
from pipeline.tables.query import Labels, open_labels
from tests.tables.corpora import check, commit, key, want

A, B, C = key("A"), key("B"), key("C")
BEFORE, AFTER = {"v": A}, {"v": B, "w": B}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One video is published; its new label and that of another video are not."""
    store = Store(tmp_path / "out")
    to_publish(store, "1", BEFORE)
    publish(store)
    to_publish(store, "2", AFTER)
    return store


def to_publish(store: Store, run: str, keys: Mapping[str, str]) -> None:
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key)
    want(store, run, keys)


def seen(labels: Labels) -> dict[str, str]:
    """The label key of every video, if the tables agree on it in all of its rows."""
    count = "SELECT video_id, label_key, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    masks, masklets, videos = (labels.sql(count.format(table)).fetchall() for table in ("masks", "masklets", "videos"))
    assert [(*row[:2], row[2] * 10) for row in videos] == [(*row[:2], row[2] * 5) for row in masklets] == masks
    return {video_id: label_key for video_id, label_key, _ in videos}


class StoppedError(Exception):
    pass


def stop_after(last: str) -> Callable[[str], None]:
    def stop(table: str) -> None:
        if table == last:
            raise StoppedError

    return stop


def views_of(store: Store) -> list[dict[str, str]]:
    """Publish; what a reader sees after each commit to a table."""
    views = []

    def look(_: str) -> None:
        with open_labels(store) as labels:
            views.append(seen(labels))

    publish(store, after_table=look)
    return views


def test_a_first_publication_is_seen_once_it_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    to_publish(store, "1", AFTER)
    assert views_of(store) == [{}, {}, AFTER]


def test_a_publication_is_seen_as_a_whole_or_not_at_all(store: Store) -> None:
    assert views_of(store) == [BEFORE, BEFORE, AFTER]


def test_tables_keep_the_version_of_the_first_access(store: Store) -> None:
    with open_labels(store) as labels:
        assert labels.sql("SELECT count(*) FROM masks").fetchall() == [(10,)]
        publish(store)
        assert seen(labels) == BEFORE
    with open_labels(store) as labels:
        assert seen(labels) == AFTER


def test_publications_while_the_tables_are_opened_are_not_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def publish_twice() -> None:
        publish(store)
        optimize(store)
        to_publish(store, "3", {"v": C, "x": C})
        publish(store)

    opened, between = snapshot.open_table, [publish_twice]

    def slowly(store: Store, name: str, version: int | None = None) -> DeltaTable | None:
        if name == "masks" and between:
            between.pop()()
        return opened(store, name, version=version)

    with monkeypatch.context() as patched, open_labels(store) as labels:
        patched.setattr(snapshot, "open_table", slowly)
        labels.arrow("masks")
        assert not between
        assert seen(labels) == BEFORE
    with open_labels(store) as labels:
        assert seen(labels) == {"v": C, "w": B, "x": C}


@pytest.mark.parametrize("last", ["masks", "masklets"])
def test_an_interrupted_publication_is_not_seen_before_it_is_finished(store: Store, last: str) -> None:
    for _ in range(2):  # the second one while it redoes what the first one left
        with pytest.raises(StoppedError):
            publish(store, after_table=stop_after(last))
        optimize(store)
        with open_labels(store) as labels:
            assert seen(labels) == BEFORE
    to_publish(store, "3", {"a": C})  # in the next publication, but not before what was interrupted
    assert views_of(store) == [BEFORE, BEFORE, AFTER, AFTER, AFTER, AFTER | {"a": C}]


def test_an_unfinished_batch_does_not_stop_readers_when_the_past_goes(store: Store) -> None:
    with pytest.raises(StoppedError):
        publish(store, after_table=stop_after("masks"))
    vacuum(store, retention_hours=0)
    with open_labels(store) as labels:
        assert labels.sql("SELECT count(*) FROM masks").fetchall() == [(20,)]
        assert labels.sql("SELECT count(*) FROM videos").fetchall() == [(1,)]
    publish(store)
    with open_labels(store) as labels:
        assert seen(labels) == AFTER


def test_deleted_videos_are_not_visible_after_the_history_is_dropped_either(store: Store) -> None:
    publish(store)
    assert delete_videos(store, ["v"]) == 10
    for _ in range(2):
        with open_labels(store) as labels:
            assert seen(labels) == {"w": B}
        drop_history(store)
    check(store, {"w": B})
