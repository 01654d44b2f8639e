"""The tables hold each video once, with its wanted key, whatever the runs want."""

import sys
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.tables import TABLES, Published, open_table, publish
from pipeline.tables import publish as publishing
from tests.tables.corpora import check, commit, key, want

A, B = key("A"), key("B")


def versions(store: Store) -> list[int]:
    return [table.version() for name in TABLES if (table := open_table(store, name))]


def test_nothing_wanted_makes_nothing(store: Store) -> None:
    assert publish(store).videos == 0
    assert list(store.list()) == []
    assert open_table(store, "videos") is None


def test_publish_twice(store: Store) -> None:
    keys = {f"v{i}": key(f"A{i}") for i in range(5)}
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key)
    want(store, "20260101", keys)
    done = publish(store)
    assert (done.videos, done.batches, done.mask_rows, done.waiting, done.unreadable) == (5, 1, 50, 0, ())
    assert done.bytes_written > 0
    check(store, keys)
    before = versions(store)
    assert publish(store).videos == 0
    assert versions(store) == before
    assert list(store.list("publish/intents")) == []
    assert [entry.path for entry in store.list("publish/turns")] == ["publish/turns/000000001.json"]


def test_from_a_to_b_and_back_publishes_the_old_part_again(store: Store) -> None:
    commit(store, "v", A)
    commit(store, "other", A)
    want(store, "1", {"v": A, "other": A})
    publish(store)
    want(store, "2", {"v": B})
    assert publish(store) == Published(
        waiting=1, seconds=pytest.approx(0, abs=60)
    )  # not labelled yet: the old one stays
    check(store, {"v": A, "other": A})
    commit(store, "v", B)
    assert publish(store).videos == 1
    check(store, {"v": B, "other": A})
    want(store, "3", {"v": A})
    assert publish(store).videos == 1
    check(store, {"v": A, "other": A})


def test_a_run_that_records_its_wanted_labels_late_does_not_win(local: Store) -> None:
    commit(local, "v", A)
    commit(local, "v", B)
    commit(local, "w", A)
    want(local, "2", {"v": B})
    publish(local)
    want(local, "1", {"v": A, "w": A})
    assert publish(local).videos == 1
    check(local, {"v": B, "w": A})


def test_videos_that_no_run_wants_any_more_stay(local: Store) -> None:
    commit(local, "v", A)
    commit(local, "w", A)
    want(local, "1", {"v": A, "w": A})
    publish(local)
    want(local, "2", {"w": A})
    assert publish(local).videos == 0
    check(local, {"v": A, "w": A})


def test_awaited_parts_are_remembered_and_old_runs_not_read_again(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A, "late": A})
    assert publish(local).waiting == 1
    reads: list[str] = []
    read = Store.read
    monkeypatch.setattr(Store, "read", lambda self, path: (reads.append(path), read(self, path))[1])
    assert publish(local).waiting == 1
    commit(local, "late", A)
    assert publish(local).videos == 1
    assert not [path for path in reads if path.startswith("runs/")]
    check(local, {"v": A, "late": A})


HOSTILE = ["..", "_x", ".x", "a/b", "it's", "''", "\"q\"", "x' OR '1'='1", "naïve 视频 🎥", "a\\b", "a\nb", "%20",
           "é" * 33, "v" * 200, "--", "${x}", ";", "\t", "A", "a"]  # fmt: skip


def test_hostile_ids(store: Store) -> None:
    keys = dict.fromkeys(HOSTILE, A)
    for video_id in keys:
        commit(store, video_id, A, frames=1)
    want(store, "1", keys)
    assert publish(store).videos == len(keys)
    check(store, keys, frames=1)
    for video_id in HOSTILE[:8]:
        commit(store, video_id, B, frames=1)
        keys[video_id] = B
    want(store, "2", keys)
    assert publish(store).videos == 8
    check(store, keys, frames=1)


def test_batches_are_bounded(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"v{i}": A for i in range(7)}
    for video_id in keys:
        commit(local, video_id, A)
    want(local, "1", keys)
    monkeypatch.setattr(sys.modules[publishing.__module__], "BATCH_VIDEOS", 3)
    assert publish(local).batches == 3
    check(local, keys)
    for video_id in keys:
        commit(local, video_id, B)
    want(local, "2", dict.fromkeys(keys, B))
    monkeypatch.setattr(sys.modules[publishing.__module__], "BATCH_ROWS", 25)
    assert publish(local).batches == 4
    check(local, dict.fromkeys(keys, B))


def test_an_output_path_that_delta_would_decode_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "a%20b")
    commit(store, "v", A)
    want(store, "1", {"v": A})
    with pytest.raises(StorageError, match="decodes '%'"):
        publish(store)


def test_paths_with_spaces_and_letters_of_all_kinds(tmp_path: Path) -> None:
    store = Store(tmp_path / "a b é#?&+视")
    commit(store, "v", A)
    want(store, "1", {"v": A})
    assert publish(store).videos == 1
    check(store, {"v": A})
