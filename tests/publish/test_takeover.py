"""A publisher that was thought dead wakes up at the worst moment: it changes nothing, and leaves nothing behind."""

import pytest

from pipeline.errors import StorageError
from pipeline.publish import publish, vacuum
from pipeline.publish.turn import take_turn
from pipeline.store import Access, Storage, Store
from tests.fixtures_s3 import S3
from tests.proxy import Proxy, Trouble
from tests.publish.corpora import check, commit, key, want

A, B = key("A"), key("B")


def take_over(store: Store) -> None:
    """What a successor does who finds the heartbeat of the publisher at work standing still."""
    with take_turn(store, stale_s=0.0):
        pass


def test_files_that_a_vacuum_took_from_it_are_not_committed(s3: S3) -> None:
    store = Store(f"{s3.uri}/out")
    commit(store, "v", A)
    want(store, "1", {"v": A})
    publish(store)
    commit(store, "v", B)
    want(store, "2", {"v": B})
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
