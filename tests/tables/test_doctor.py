"""The doctor finds what crashes leave, repairs it, and finds nothing in a healthy output."""

import os
import time
from pathlib import Path

import pytest

from jobs import doctor as job
from pipeline.errors import StorageError
from pipeline.labels import MASKS
from pipeline.labels.failures import Attempt, failure_of, write_failure
from pipeline.storage import Access, Storage, Store, part_path
from pipeline.storage.paths import kept_state_path, run_path, states_index_path
from pipeline.tables import dataset, delete_videos, publish
from pipeline.tables.commits import replace_videos
from pipeline.tables.doctor import examine
from pipeline.tables.wanted import WANTED, write_state
from pipeline.workers.checkpoint import Checkpoints, remove_finished, unfinished
from tests.proxy import Proxy
from tests.tables.corpora import check, commit, key, make_part, run_id, want

KEYS = {"a": key("a"), "b": key("b"), "../c": key("c")}


@pytest.fixture
def store(tmp_path):
    """Three published videos."""
    store = Store(tmp_path)
    for video_id, label_key in KEYS.items():
        commit(store, video_id, label_key)
    want(store, "1", KEYS)
    publish(store)
    return store


def kinds(findings):
    return sorted(finding.kind for finding in findings)


def test_a_healthy_output_has_no_findings(store, capsys):
    assert examine(store) == []
    assert job.main([store.uri]) == 0
    assert "is healthy" in capsys.readouterr().out


def test_an_output_that_was_never_published_is_healthy(tmp_path):
    assert examine(Store(tmp_path)) == []


def test_a_committed_label_that_was_not_published_is_published(store):
    commit(store, "a", key("new"))
    want(store, "2", {"a": key("new")})
    assert kinds(examine(store)) == ["unpublished label"]
    examine(store, repair=True)
    assert examine(store) == []
    check(store, KEYS | {"a": key("new")})


def test_a_concurrent_publication_is_no_fault(store):
    found = []
    keys = {"a": key("new"), "d": key("d")}
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key)
    want(store, "2", keys)
    publish(store, after_table=lambda _: found.extend(kinds(examine(store))))
    assert set(found) == {"unpublished label"}
    assert examine(store) == []


def test_an_overlooked_missing_label_is_published(store):
    commit(store, "a", key("new"))
    want(store, "2", {"a": key("new")})
    write_state(store, WANTED.empty_table(), frozenset({"1", "2"}))
    assert [(finding.kind, finding.repaired) for finding in examine(store, repair=True)] == [
        ("unpublished label", True)
    ]
    assert examine(store) == []
    check(store, KEYS | {"a": key("new")})


def test_what_could_not_be_published_is_not_called_repaired(store):
    data = make_part("a", key("torn"), frames=50)
    store.put(part_path("a", key("torn")), data[:4] + bytes(byte ^ 0xFF for byte in data[4:600]) + data[600:])
    want(store, "2", {"a": key("torn")})
    assert [(finding.kind, finding.repaired) for finding in examine(store, repair=True)] == [
        ("unpublished label", False)
    ]
    assert job.main([store.uri, "--repair"]) == 3
    check(store, KEYS)


def test_an_interrupted_publication_is_finished(store):
    commit(store, "a", key("new"))
    want(store, "2", {"a": key("new")})

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        publish(store, after_table=stop)
    want(store, "3", KEYS)  # back to what readers still see
    assert examine(store, repair=True) == []
    check(store, KEYS)


def test_a_damaged_part_is_deleted_for_the_next_run(store):
    path = part_path("b", key("torn"))
    store.put(path, make_part("b", key("torn"))[:-100])
    (finding,) = examine(store)
    assert finding.kind == "unreadable part"
    assert "'b'" in finding.what
    examine(store, repair=True)
    assert not store.exists(path)
    assert examine(store) == []


def test_a_part_that_the_storage_does_not_give_just_now_is_kept(s3):
    path = part_path("v", key("v"))
    store = Store(f"{s3.uri}/out")
    commit(store, "v", key("v"))
    want(store, "1", {"v": key("v")})
    with Proxy(
        s3.endpoint, trouble=lambda request: "refused" if request.startswith("GET ") and path in request else None
    ) as proxy:
        access = Storage(((store.uri, Access(endpoint=proxy.endpoint)),))
        impatient = Store(store.uri, storage=access, retry_budget_s=0.1)
        with pytest.raises(StorageError, match="SlowDown"):
            examine(impatient, repair=True)
    assert store.exists(path)


def test_a_part_that_expires_while_parts_are_looked_at_is_no_finding(store):
    class Expiring(Store):
        def read_tail(self, path, size):
            store.delete(path)
            return super().read_tail(path, size)

    assert examine(Expiring(store.uri), repair=True) == []
    check(store, KEYS)


def test_what_belongs_to_labelled_videos_is_cleared_away_and_nothing_else(store):
    rows_so_far = MASKS.empty_table()
    for video_id, label_key in (("a", KEYS["a"]), ("a", key("unfinished"))):
        Checkpoints(store=store, video_id=video_id, label_key=label_key).save(
            new_rows=rows_so_far, tracker=b"state", frames=3
        )
        attempts = [Attempt("killed", "gone", "", "worker-1", 0.0)]
        write_failure(store, failure_of(attempts, video_id=video_id, label_key=label_key, run_id="1"))
    assert kinds(examine(store, repair=True)) == ["obsolete failure", "orphan checkpoint"]
    assert examine(store) == []
    assert Checkpoints(store=store, video_id="a", label_key=key("unfinished")).load(bytes).frames == 3


def test_states_without_their_part_or_index_are_cleared_away_and_no_others(store):
    kept = []
    for label_key, files in ((KEYS["a"], 2), (key("gone"), 2), (KEYS["b"], 1), (key("unfinished"), 1)):
        video_id = "b" if label_key == KEYS["b"] else "a"
        state = kept_state_path(video_id, label_key, frames=8, name="0" * 32)
        paths = [state, states_index_path(video_id, label_key)][:files]
        for path in paths:
            store.put(path, b"{}")
        kept += paths if label_key in (KEYS["a"], key("unfinished")) else []
    Checkpoints(store=store, video_id="a", label_key=key("unfinished")).save(
        new_rows=MASKS.empty_table(), tracker=b"state", frames=3
    )
    assert kinds(examine(store)) == ["orphan state", "orphan state"]
    assert kinds(examine(store, repair=True)) == ["orphan state", "orphan state"]
    assert examine(store) == []
    assert sorted(entry.path for entry in store.list("states")) == sorted(kept)


def test_what_a_killed_process_was_writing_is_removed_once_it_is_old(store):
    fresh, old = (Path(store.uri) / "parts" / "00" / f".part-{name * 32}" for name in "fe")
    foreign = Path(store.uri) / "parts" / "00" / ".part-mine"
    for path in (fresh, old, foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"labels")
    for path in (old, foreign):
        os.utime(path, (time.time() - 100_000,) * 2)
    (finding,) = examine(store)
    assert (finding.kind, finding.what) == ("unfinished write", f"parts/00/{old.name}")
    assert kinds(examine(store, repair=True)) == ["unfinished write"]
    assert fresh.exists()
    assert foreign.exists()
    assert not old.exists()
    assert examine(store) == []


def test_a_run_ends_by_removing_checkpoints_that_came_after_the_commit(store):
    for label_key in (KEYS["a"], key("unfinished")):
        Checkpoints(store=store, video_id="a", label_key=label_key).save(
            new_rows=MASKS.empty_table(), tracker=b"state", frames=3
        )
    remove_finished(store)
    assert unfinished(store) == {("a", key("unfinished"))}


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("masks", lambda found: found.slice(1)),
        ("masks", lambda found: found.take([0, 0, *range(2, found.num_rows)])),
        ("masklets", lambda found: found.slice(1)),
        ("videos", lambda found: found.slice(1)),
    ],
)
def test_tables_that_disagree_are_found(store, table, damage):
    found = dataset(store, table).to_table()
    own = found.filter([video == "a" for video in found["video_id"].to_pylist()])
    replace_videos(store, table, ["a"], lambda: iter([damage(own)]), schema=found.schema, epoch=99)
    (finding,) = [each for each in examine(store) if each.kind == "tables disagree"]
    assert "'a'" in finding.what
    assert job.main([store.uri]) == 3


def stage(store, number, keys):
    """Commit labels that `number`, a run with --no-publish, wants."""
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key)
    want(store, run_id(number), keys)
    store.put(run_path(run_id(number)), b'{"configuration": {"publish": false}}')


def test_staged_labels_are_told_and_neither_wrong_nor_published_by_repair(store, capsys):
    staged = {"a": key("staged"), "new": key("new")}
    stage(store, 4, staged)
    for repair in (False, True):
        assert kinds(examine(store, repair=repair)) == ["staged label", "staged label"]
        assert job.main([store.uri, *(["--repair"] if repair else [])]) == 0
        said = capsys.readouterr().out
        assert "       2 staged label\n" in said
        assert f"wait to be published: python -m jobs.publish {store}" in said
        assert "is healthy" in said
        check(store, KEYS)
    assert publish(store).videos == 2
    assert examine(store) == []
    check(store, KEYS | staged)


def test_repair_finishes_an_interrupted_publication_without_the_staged_labels(store):
    commit(store, "a", key("new"))
    want(store, run_id(3), {"a": key("new")})

    def stop(_):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        publish(store, after_table=stop)
    stage(store, 4, {"a": key("staged"), "b": key("staged b")})
    assert kinds(examine(store, repair=True)) == ["staged label", "staged label", "unpublished label"]
    check(store, KEYS | {"a": key("new")})
    assert list(store.list("publish/intents")) == []
    assert publish(store).videos == 2
    check(store, KEYS | {"a": key("staged"), "b": key("staged b")})


def test_a_staged_label_that_was_published_and_is_lost_is_wrong(store):
    stage(store, 4, {"d": key("d")})
    publish(store)
    delete_videos(store, ["d"])
    assert kinds(examine(store)) == ["unpublished label"]
    assert [finding.repaired for finding in examine(store, repair=True)] == [True]
    check(store, KEYS | {"d": key("d")})
