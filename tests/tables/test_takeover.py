"""A publisher that was presumed dead resumes: it changes nothing and leaves nothing behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import StorageError
from pipeline.labels import MASKS
from pipeline.storage import Access, Storage, Store
from pipeline.storage.paths import PUBLISH_INTENTS, PUBLISH_STATE
from pipeline.tables import drop_history, publish, vacuum
from pipeline.tables.commit_metadata import SupersededError
from pipeline.tables.commits import replace_videos
from pipeline.tables.doctor import examine
from pipeline.tables.epoch import hold_epoch
from pipeline.tables.forget import forget
from pipeline.tables.intents import write_intent
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.tables.corpora import check, commit, key, run_id, want
from tests.tables.corpora import rows as all_rows

A, B, C = key("A"), key("B"), key("C")


class Paused(Store):
    """Pauses before it first writes or looks up something below `at`; calls `meanwhile` then."""

    at = ""
    meanwhile: Callable[[], None] | None = None

    def put(self, path: str, data: bytes | Path) -> None:
        self._perhaps_pause(path)
        super().put(path, data)

    def exists(self, path: str) -> bool:
        self._perhaps_pause(path)
        return super().exists(path)

    def _perhaps_pause(self, path: str) -> None:
        if path.startswith(self.at) and (happens := self.meanwhile):
            self.meanwhile = None
            happens()


def take_over(store: Store) -> None:
    """What a successor does when the heartbeat of the current publisher is stale."""
    with hold_epoch(store, stale_s=0.0):
        pass


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One video published with A, and then with B wanted and committed."""
    store = Store(tmp_path / "out")
    commit(store, "v", A)
    want(store, run_id(1), {"v": A})
    publish(store)
    commit(store, "v", B)
    want(store, run_id(2), {"v": B})
    return store


def publish_with_pause(store: Store, meanwhile: Callable[[], None], *, at: str = PUBLISH_INTENTS) -> None:
    """Publish with a pause."""
    paused = Paused(store.uri)
    paused.at, paused.meanwhile = at, meanwhile
    with pytest.raises(SupersededError, match="a later publisher has taken over"):
        publish(paused)


def test_it_is_refused_where_its_successor_had_nothing_to_write(store: Store) -> None:
    def meanwhile() -> None:
        take_over(store)
        want(store, run_id(3), {"v": A})
        assert publish(store).videos == 0

    publish_with_pause(store, meanwhile)
    check(store, {"v": A})
    publish(store)
    check(store, {"v": A})


def test_its_unfinished_batch_is_not_published_again(store: Store) -> None:
    def meanwhile() -> None:
        take_over(store)
        commit(store, "v", C)
        want(store, run_id(3), {"v": C})
        assert publish(store).videos == 1

    publish_with_pause(store, meanwhile)
    assert list(store.list(PUBLISH_INTENTS)) == []
    assert publish(store).videos == 0
    check(store, {"v": C})


def test_its_intent_is_redone_with_the_labels_that_are_wanted_now(store: Store) -> None:
    publish(store)
    commit(store, "v", C)
    want(store, run_id(3), {"v": C})
    publish(store)
    write_intent(store, [("v", B)])  # and then it was killed
    publish(store)
    check(store, {"v": C})
    assert list(store.list(PUBLISH_INTENTS)) == []
    assert examine(store) == []


def test_it_does_not_restore_forgotten_videos(store: Store) -> None:
    publish(store)
    want(store, run_id(3), {"v": C})

    def meanwhile() -> None:
        take_over(store)
        forget(store, ["v"])

    publish_with_pause(store, meanwhile, at="parts/")
    assert pq.read_table(store.uri_of(PUBLISH_STATE))["video_id"].to_pylist() == []
    assert publish(store).waiting == 0


def test_files_that_a_vacuum_took_from_it_are_not_committed(s3: S3) -> None:
    store = Store(f"{s3.uri}/out")
    commit(store, "v", A)
    want(store, run_id(1), {"v": A})
    publish(store)
    commit(store, "v", B)
    want(store, run_id(2), {"v": B})
    removed: list[int] = []

    def sleep(request: str) -> Trouble | None:
        """The file of mask rows is written; the log entry that names it has yet to be."""
        if not removed and request.startswith("PUT ") and "/masks/_delta_log/" in request and fenced(request):
            take_over(store)
            removed.append(vacuum(store, retention_hours=0))
        return None

    def fenced(_: str) -> bool:
        return len([entry for entry in store.list("masks") if entry.path.endswith(".parquet")]) == 2

    with Proxy(s3.endpoint, trouble=sleep) as proxy:
        behind = Store(store.uri, storage=Storage(((store.uri, Access(endpoint=proxy.endpoint)),)))
        with pytest.raises(StorageError, match="a later publisher has taken over"):
            publish(behind)
    assert removed == [1]
    check(store, {"v": A})
    assert publish(store).videos == 1
    check(store, {"v": B})


def test_one_with_only_dropped_versions_is_refused(store: Store) -> None:
    def rows() -> Iterator[pa.Table]:
        publish(store)
        drop_history(store)
        return iter([stale])

    stale = pa.Table.from_pylist([row | {"video_id": "new"} for row in all_rows(store, "masks")], schema=MASKS)
    with pytest.raises(StorageError, match="Invalid table version"):
        replace_videos(store, "masks", ["new"], rows, schema=MASKS, epoch=1)
    check(store, {"v": B})
    commit(store, "w", A)
    want(store, run_id(3), {"w": A})
    publish(store)
    check(store, {"v": B, "w": A})
