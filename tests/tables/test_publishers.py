"""Of several publishers only the newest writes."""

import os
import threading

import pytest

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.tables import TABLES, Published, open_table, publish
from pipeline.tables.commit_metadata import SupersededError, epoch_of
from pipeline.tables.commits import replace_videos
from pipeline.tables.epoch import hold_epoch
from tests.tables.corpora import check, commit, key, want

A, B = key("A"), key("B")


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


def test_a_paused_publisher_cannot_overwrite_a_later_one(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    commit(local, "v", B)

    def sleep(table: str) -> None:
        """While the first publisher is paused between two tables, a second one takes over and finishes."""
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


def test_a_writer_that_loses_a_race_retries(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_epochs_continue_from_the_tables_when_the_lease_files_are_gone(local: Store) -> None:
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


def test_replacing_rows_in_a_superseded_epoch_is_refused(local: Store) -> None:
    commit(local, "v", A)
    want(local, "1", {"v": A})
    publish(local)
    table = open_table(local, "masks")
    assert table
    with pytest.raises(SupersededError):
        replace_videos(local, "masks", ["v"], lambda: iter([]), schema=TABLES["masks"], epoch=epoch_of(table) - 1)
    check(local, {"v": A})
