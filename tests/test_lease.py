"""One driver per output, whatever happens to drivers."""

import json
import subprocess
import sys
import threading
import time

import pytest

from pipeline.lease import Lease, LeaseHeldError
from pipeline.store import Store

FAST = {"beat_s": 0.1, "stale_s": 1.0}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def lease(store, run_id="one", **given):
    return Lease(store, run_id=run_id, **{"on_lost": lambda: None, **FAST, **given})


def record(store, number, **fields):
    """A lease of another machine, as it lies in storage."""
    base = {"run_id": "other", "host": "elsewhere", "pid": 1, "born": "1", "beat": time.time(), "released": False}
    store.put(f"leases/all/{number:09d}.json", json.dumps(base | fields).encode())


def test_a_second_driver_is_told_who_is_at_work(store):
    with (
        lease(store),
        pytest.raises(LeaseHeldError, match=r"being labelled by run one \(process \d+ on "),
        lease(store, "two"),
    ):
        pass


def test_a_released_output_is_free_at_once(store):
    with lease(store):
        pass
    started = time.monotonic()
    with lease(store, "two"):
        assert time.monotonic() - started < FAST["stale_s"] / 2


def test_shards_do_not_get_into_each_others_way(store):
    with lease(store, name="1-of-2"), lease(store, "two", name="2-of-2"):
        pass


def test_a_heartbeat_that_stands_still_is_taken_over_after_a_while(store):
    record(store, 5)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started >= FAST["stale_s"]


def test_a_lease_of_long_ago_is_not_waited_for(store):
    record(store, 5, beat=time.time() - 10_000)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started < FAST["stale_s"] / 2


def test_a_dead_process_of_this_machine_is_not_waited_for(store):
    code = (
        "import os, signal, sys; from pipeline.lease import Lease; from pipeline.store import Store\n"
        "Lease(Store(sys.argv[1]), run_id='dead', on_lost=print).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, store.uri], check=False)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started < FAST["stale_s"] / 2


def test_a_paused_driver_that_was_taken_over_hears_of_it_and_leaves_the_new_lease_alone(store):
    lost = threading.Event()
    with lease(store, on_lost=lost.set):
        record(store, 2, run_id="successor")
        assert lost.wait(5)
    assert json.loads(store.read("leases/all/000000002.json"))["run_id"] == "successor"
    assert not json.loads(store.read("leases/all/000000002.json"))["released"]


def test_of_many_at_once_one_gets_a_stale_output(store):
    record(store, 5, beat=time.time() - 10_000)
    got, refused = [], []

    def try_it(name):
        try:
            with lease(store, name):
                got.append(name)
                time.sleep(2)
        except LeaseHeldError:
            refused.append(name)

    threads = [threading.Thread(target=try_it, args=(f"run-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 5
