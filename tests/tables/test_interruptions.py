"""An interrupted or killed publication is finished by the next one."""

import signal
import subprocess
import sys
import time

import pytest

from pipeline.storage import Store
from pipeline.tables import TABLES, publish
from tests.tables.corpora import check, commit, key, want

A, B = key("A"), key("B")


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


def test_a_killed_publisher_is_noticed_at_once_and_its_batch_finished(store: Store) -> None:
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
