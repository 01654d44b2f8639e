"""The tables hold each video once, by its wanted key, whatever happens in between."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import StorageError
from pipeline.storage import Access, Storage, Store, part_path
from pipeline.tables import TABLES, Published, open_table, publish
from pipeline.tables import publish as publishing
from pipeline.tables.commit_metadata import SupersededError, epoch_of
from pipeline.tables.commits import replace_videos
from pipeline.tables.epoch import hold_epoch
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.tables.corpora import check, commit, key, make_part, rows, want

A, B = key("A"), key("B")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "out" if request.param == "local" else f"{request.getfixturevalue('s3').uri}/out")


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


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


def test_a_run_that_was_slow_to_say_what_it_wants_does_not_win(local: Store) -> None:
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


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("last", list(TABLES))
@pytest.mark.parametrize("then", ["same", "back to A", "on to C", "on to C, not there yet"])
def test_an_interruption_between_tables_is_repaired(local: Store, last: str, then: str) -> None:
    store = local
    keys = {"v": A, "w": A}
    for video_id in keys:
        commit(store, video_id, A)
    want(store, "1", keys)
    publish(store)
    commit(store, "v", B)
    want(store, "2", {"v": B})

    def stop(table: str) -> None:
        if table == last:
            raise StoppedError

    with pytest.raises(StoppedError):
        publish(store, after_table=stop)
    if then == "back to A":
        want(store, "3", {"v": A})
    elif then.startswith("on to C"):
        want(store, "3", {"v": key("C")})
        if then == "on to C":
            commit(store, "v", key("C"))
    publish(store)
    check(store, {"v": {"back to A": A, "on to C": key("C")}.get(then, B), "w": A})
    assert list(store.list("publish/intents")) == []
    assert publish(store).videos == 0


KILLED = """
import os, signal, sys
from pipeline.tables import publish
from pipeline.storage import Store
publish(Store(sys.argv[1]), after_table=lambda table: table == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_publisher_is_noticed_at_once_and_its_work_finished(store: Store) -> None:
    keys = {f"v{i}": A for i in range(4)}
    for video_id in keys:
        commit(store, video_id, A)
    want(store, "1", keys)
    for table in ("masks", "masklets"):
        killed = subprocess.run([sys.executable, "-c", KILLED, store.uri, table], timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL
    started = time.monotonic()
    assert publish(store).videos == 4
    assert time.monotonic() - started < 40  # and not only after a heartbeat has become stale
    check(store, keys)


def test_two_publishers_at_once(store: Store) -> None:
    keys = {f"v{i}": A for i in range(6)}
    for video_id in keys:
        commit(store, video_id, A)
    want(store, "1", keys)
    done: list[Published] = []
    threads = [threading.Thread(target=lambda: done.append(publish(Store(store.uri)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.videos for each in done) == 6
    check(store, keys)


def test_a_publisher_that_slept_cannot_write_over_a_later_one(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    commit(local, "v", B)

    def sleep(table: str) -> None:
        """While the first publisher sleeps between two tables, a second one takes over and finishes."""
        if table == "masks":
            want(local, "2", {"v": B})
            with hold_epoch(local, stale_s=0.0) as epoch:
                pass
            assert publish(local).videos == 1
            check(local, {"v": B})
            assert epoch == 2

    with pytest.raises(SupersededError, match="a later publisher has taken over"):
        publish(local, after_table=sleep)
    assert publish(local).unreadable == ()
    check(local, {"v": B})


def test_a_writer_that_is_slower_tries_again(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(local, "v", A)
    commit(local, "w", A)
    want(local, "1", {"v": A})
    publish(local)
    want(local, "2", {"w": A})
    import pipeline.tables.commits as tables

    write, others = tables.write_deltalake, [1, 2]

    def beaten(table: object, *given: object, **options: object) -> None:
        if others:
            others.pop()
            write(str(local.uri_of("masks")), rows_of_v, mode="overwrite", predicate="video_id = 'v'")
        write(table, *given, **options)

    found = open_table(local, "masks")
    assert found
    rows_of_v = found.to_pyarrow_dataset().to_table()
    monkeypatch.setattr(tables, "write_deltalake", beaten)
    assert publish(local).videos == 1
    check(local, {"v": A, "w": A})


def test_waiting_for_another_publisher_ends_with_its_name(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    with hold_epoch(local), pytest.raises(StorageError, match=rf"another publisher .*process {os.getpid()} on "):
        publish(local, wait_s=0.3)
    assert publish(local).videos == 1


def test_turns_go_on_where_the_tables_are_when_their_files_are_gone(local: Store) -> None:
    for number in (1, 2, 3):
        commit(local, "v", key(str(number)))
        want(local, str(number), {"v": key(str(number))})
        publish(local)
    local.delete_prefix("publish")
    commit(local, "v", key("4"))
    want(local, "4", {"v": key("4")})
    assert publish(local).videos == 1
    table = open_table(local, "videos")
    assert table
    assert epoch_of(table) == 4
    check(local, {"v": key("4")})


@pytest.mark.parametrize("harm", ["truncated", "not parquet", "other video", "gone", "rows"])
def test_a_damaged_part_does_not_stop_the_others(local: Store, harm: str) -> None:
    keys = {"a": A, "bad": A, "c": A}
    for video_id in keys:
        commit(local, video_id, A, frames=50)
    path, data = part_path("bad", A), make_part("bad", A, frames=50)
    if harm == "rows":
        data = data[:4] + bytes(byte ^ 0xFF for byte in data[4:600]) + data[600:]
    elif harm == "other video":
        data = make_part("a", A)
    else:
        data = {"truncated": data[:-100], "not parquet": b"hello", "gone": b""}[harm]
    local.put(path, data)
    want(local, "1", keys)
    if harm == "gone":
        local.delete(path)
    done = publish(local)
    assert done.videos == 2
    assert [part.video_id for part in done.unreadable] == ([] if harm == "gone" else ["bad"])
    assert done.waiting == (1 if harm == "gone" else 0)
    check(local, {"a": A, "c": A}, frames=50)
    local.put(path, make_part("bad", A, frames=50))
    assert publish(local).videos == 1
    check(local, keys, frames=50)


@pytest.mark.parametrize("good", [0, 1])
def test_a_part_that_the_storage_does_not_give_just_now_is_published_later(good: int, s3: S3) -> None:
    """Neither its footer nor, where that was read, its rows."""
    store, path, seen = Store(f"{s3.uri}/out"), part_path("away", A), Counter[str]()
    for video_id in ("away", "v"):
        commit(store, video_id, A)
    want(store, "1", {"away": A, "v": A})

    def trouble(request: str) -> Trouble | None:
        asked = request.startswith("GET ") and path in request
        seen[path] += asked
        return "refused" if asked and seen[path] > good else None

    with Proxy(s3.endpoint, trouble=trouble) as proxy:
        access = Storage(((store.uri, Access(endpoint=proxy.endpoint)),))
        done = publish(Store(store.uri, storage=access, retry_budget_s=0.1))
    (part,) = done.unreadable
    assert "SlowDown" in part.reason
    assert "damaged" not in part.reason
    check(store, {"v": A})
    assert publish(store).videos == 1
    check(store, {"away": A, "v": A})


def test_extra_columns_of_any_type_are_carried_through(local: Store) -> None:
    import datetime as dt

    extras = [
        {"site": "north", "Lens": 35, "when": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "tags": ["a", "b"]},
        {"site": 7, "lens": 50.0, "nested": {"a": [1, 2]}, "none": None},
        {"site": "south", "Lens": 1.5, "when": "later", "frames": "mine"},
    ]
    for at, extra in enumerate(extras):
        commit(local, f"v{at}", A, extra=extra)
        want(local, str(at), {f"v{at}": A})
        if at:
            publish(local)
    found = {row["video_id"]: row for row in rows(local, "videos")}
    assert [found[f"v{at}"]["site"] for at in range(3)] == ["north", None, "south"]
    assert found["v1"]["site_int64"] == 7
    assert [found[f"v{at}"]["Lens"] for at in range(3)] == [35, 50, None]
    assert found["v2"]["Lens_double"] == 1.5
    assert found["v0"]["tags"] == ["a", "b"]
    assert found["v1"]["nested"] == {"a": [1, 2]}
    assert found["v0"]["when"] == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert found["v2"]["when_string"] == "later"
    assert found["v2"]["frames"] == 5
    assert found["v2"]["manifest_frames"] == "mine"
    assert "none" not in found["v1"]


def test_tables_say_when_they_were_published(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    publish(local)
    assert rows(local, "videos")[0]["published_at"] is not None


def test_replacing_by_a_stale_turn_is_refused(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    publish(local)
    table = open_table(local, "masks")
    assert table
    with pytest.raises(SupersededError):
        replace_videos(local, "masks", ["v"], lambda: iter([]), schema=TABLES["masks"], epoch=epoch_of(table) - 1)
    check(local, {"v": A})


def test_an_output_whose_path_delta_would_decode_is_refused(tmp_path: Path) -> None:
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
