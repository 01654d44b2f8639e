"""Maintenance keeps tables correct, sorted and small, and deletes parts only when they are not needed."""

import os
import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.storage import Store, part_path
from pipeline.storage.paths import states_index_path
from pipeline.tables import (
    commits,
    delete_videos,
    drop_history,
    expire_parts,
    files,
    open_table,
    optimize,
    publish,
    sorting,
    vacuum,
)
from tests.tables.corpora import check, commit, key, want

A, B = key("A"), key("B")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


def scattered_nights(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Three nights of new and relabelled videos, with row groups so small that there are many."""
    monkeypatch.setattr(commits, "ROW_GROUP_ROWS", 40)
    names = [f"v{at:03}" for at in range(60)]
    random.Random(5).shuffle(names)
    keys: dict[str, str] = {}
    for night in range(3):
        new = dict.fromkeys(names[night * 20 : night * 20 + 20], key(f"{night}"))
        again = dict.fromkeys(random.Random(night).sample(sorted(keys), min(len(keys), 7)), key(f"again {night}"))
        for video_id, label_key in (new | again).items():
            commit(store, video_id, label_key)
        keys |= new | again
        want(store, f"{night}", keys)
        publish(store)
    return keys


def row_groups(store: Store) -> list[list[tuple[str, int, int]]]:
    """(video_id, object_id, frame_index) of every row group of the masks."""
    groups = []
    table = open_table(store, "masks")
    assert table
    for uri in table.file_uris():
        with pq.ParquetFile(uri) as file:
            for at in range(file.num_row_groups):
                rows = file.read_row_group(at, columns=["video_id", "object_id", "frame_index"]).to_pylist()
                groups.append([tuple(row.values()) for row in rows])
    return groups


def test_optimized_tables_hold_the_same_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = scattered_nights(store, monkeypatch)
    done = {each.table: each for each in optimize(store)}
    assert done["masks"].files_after == 1
    assert done["masks"].bytes_rewritten > 0
    check(store, keys)
    groups = row_groups(store)
    assert len(groups) == 15
    assert sum(rows == sorted(rows) for rows in groups) >= 12  # delta-rs may reorder batches


def test_tidy_tables_are_left_alone(store: Store) -> None:
    for at, video_id in enumerate(("b", "a", "c")):
        commit(store, video_id, A)
        want(store, str(at), {video_id: A})
        publish(store)
    assert [(each.files_before, each.files_after) for each in optimize(store)] == [(3, 1)] * 3
    assert [each.bytes_rewritten for each in optimize(store)] == [0, 0, 0]
    check(store, dict.fromkeys("abc", A))


def test_big_sorted_files_are_left_alone(store: Store) -> None:
    for video_id in ("v", "x1", "x0"):
        commit(store, video_id, A, frames=200 if video_id == "v" else 5)
        want(store, video_id, {video_id: A})
        publish(store)
    table = open_table(store, "masks")
    assert table
    big = max(table.file_uris(), key=lambda uri: Path(uri).stat().st_size)
    optimize(store, target_bytes=2 * Path(big).stat().st_size)
    table = open_table(store, "masks")
    assert table
    assert big in table.file_uris()
    assert len(table.file_uris()) == 2


def test_overlap_of_row_groups() -> None:
    assert files.overlap([]) == 1
    assert files.overlap([("a", "c"), ("c", "e"), ("e", "e"), ("e", "g")]) == 1
    assert files.overlap([("c", "e"), ("a", "d"), ("x", "z")]) == 2
    assert files.overlap([("a", "z")] * 3 + [("b", "c")]) == 4


def test_long_videos_are_sorted_object_by_object(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, video_id in enumerate(("b", "a", "c")):
        commit(store, video_id, A, objects=3, frames=30)
        want(store, str(at), {video_id: A})
        publish(store)
    monkeypatch.setattr(sorting, "SORT_ROWS", 40)
    optimize(store)
    check(store, dict.fromkeys("abc", A), objects=3, frames=30)
    (rows,) = row_groups(store)
    assert rows == sorted(rows)


def test_several_passes_over_a_large_table(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = scattered_nights(store, monkeypatch)
    monkeypatch.setattr(sorting, "SORT_ROWS", 25)
    monkeypatch.setattr(sorting, "FILES_AT_ONCE", 4)
    assert optimize(store)[0].bytes_rewritten > 0
    check(store, keys)


def test_vacuum_keeps_what_young_versions_need(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = scattered_nights(store, monkeypatch)
    optimize(store)
    files = len(list(store.list("masks")))
    assert vacuum(store, retention_hours=1) == 0
    assert len([entry for entry in store.list("masks") if entry.path.endswith(".parquet")]) <= files
    assert vacuum(store, retention_hours=0) > 0
    check(store, keys)
    left = [entry.path for entry in store.list("masks") if "_delta_log" not in entry.path]
    assert len(left) == 1


def test_vacuum_keeps_what_is_younger_than_part_of_an_hour(store: Store) -> None:
    for label_key in (A, B):
        commit(store, "v", label_key)
        want(store, label_key, {"v": label_key})
        publish(store)
    assert vacuum(store, retention_hours=59 / 60) == 0
    assert vacuum(store, retention_hours=0) == 3


def test_parts_expire_only_when_old_and_not_needed(store: Store) -> None:
    for video_id in ("published", "changed", "waiting"):
        commit(store, video_id, A)
    commit(store, "nobody's", A)
    want(store, "1", {"published": A, "changed": A})
    publish(store)
    commit(store, "changed", B)
    want(store, "2", {"changed": B, "waiting": A})
    now = time.time()
    assert expire_parts(store, older_than_s=3600, now=now) == 0
    # Seen from two hours later: `changed` A is published and B wanted, `waiting` is wanted and not published.
    assert expire_parts(store, older_than_s=3600, now=now + 7200) == 2
    left = {entry.path for entry in store.list("parts")}
    assert left == {part_path("changed", B), part_path("waiting", A), part_path("nobody's", A)}
    publish(store)
    check(store, {"published": A, "changed": B, "waiting": A})


def test_superseded_parts_expire(store: Store) -> None:
    commit(store, "v", A)
    commit(store, "v", B)
    want(store, "1", {"v": B})
    publish(store)
    old = time.time() - 7200
    for label_key in (A, B):
        os.utime(store.uri_of(part_path("v", label_key)), (old, old))
        store.put(states_index_path("v", label_key), b"{}")
    store.put("states/notes.txt", b"mine")
    assert expire_parts(store, older_than_s=3600, now=time.time()) == 1  # B was published just now
    assert [entry.path for entry in store.list("states")] == sorted(["states/notes.txt", states_index_path("v", B)])
    assert [entry.path for entry in store.list("parts")] == [part_path("v", B)]


def test_videos_are_deleted_from_all_tables(store: Store) -> None:
    keys = {"v": A, "it's": A, "w": A}
    for video_id in keys:
        commit(store, video_id, A)
    want(store, "1", keys)
    publish(store)
    assert delete_videos(store, ["it's", "v", "never there"]) == 20
    check(store, {"w": A})
    assert delete_videos(store, []) == 0


def test_tables_without_a_past_are_written_to_as_before(store: Store) -> None:
    keys = {"v": A, "w": A, "x": A}
    for video_id in keys:
        commit(store, video_id, A)
        want(store, video_id, {video_id: A})
        publish(store)
    assert delete_videos(store, ["x"]) == 10
    del keys["x"]
    for _ in range(2):
        assert drop_history(store) > 0
        check(store, keys)
    commit(store, "v", B)
    want(store, "z", {"v": B})
    assert publish(store).videos == 1
    check(store, keys | {"v": B})
    optimize(store)
    assert vacuum(store, retention_hours=0) > 0
    check(store, keys | {"v": B})


def test_columns_of_new_tables_have_comments(store: Store) -> None:
    commit(store, "v", A)
    want(store, "1", {"v": A})
    publish(store)
    for name in ("masks", "masklets", "videos"):
        table = open_table(store, name)
        assert table
        fields = {field.name: field.metadata.get("comment") for field in table.schema().fields}
        assert [column for column, comment in fields.items() if not comment] == []
