"""One driver per output, whatever happens to drivers."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from pipeline.storage import Store
from pipeline.storage.heartbeat import Watch, judge
from pipeline.storage.lease import Lease, LeaseHeldError
from tests.proxy import Proxy

FOLDER = "leases/all"
FAST = {"beat_s": 0.2, "stale_s": 60.0}
"""Heartbeats come often, and may be late by a minute on a busy machine."""
STALE_S = 1.0
"""Where the holder is dead, so that no heartbeat can be late."""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def lease(store, who="one", **given):
    return Lease(store, **{"folder": FOLDER, "who": f"run {who}", **FAST, **given})


def record(store, number, *, age_s=0, **fields):
    """A lease of another machine, as it lies in storage."""
    base = {"who": "run other", "host": "elsewhere", "pids": None, "pid": 1, "born": "1", "beat": time.time()}
    base |= {"released": False}
    path = f"{FOLDER}/{number:09d}.json"
    store.put(path, json.dumps(base | fields).encode())
    os.utime(f"{store.uri}/{path}", (time.time() - age_s,) * 2)


def test_a_second_driver_is_told_who_holds_the_lease(store):
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
        assert time.monotonic() - started < 30


def test_shards_have_leases_of_their_own(store):
    with lease(store, folder="leases/1-of-2"), lease(store, "two", folder="leases/2-of-2"):
        pass


def test_a_lease_is_taken_over_after_no_heartbeat_for_a_while(store):
    record(store, 5)
    started = time.monotonic()
    with lease(store, stale_s=STALE_S):
        assert time.monotonic() - started >= STALE_S


class Away(Store):
    """Its second read takes longer than a heartbeat may stay the same."""

    reads = 0

    def read(self, path):
        self.reads += 1
        time.sleep(1.5 * STALE_S if self.reads == 2 else 0)
        return super().read(path)


def test_time_without_storage_does_not_make_a_holder_stale(store):
    record(store, 5)
    started = time.monotonic()
    with lease(Away(store.uri), stale_s=STALE_S):
        assert time.monotonic() - started >= 2.5 * STALE_S


def test_a_lease_of_long_ago_is_not_waited_for(store):
    record(store, 5, age_s=10_000)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("ahead_s", [-10_000, 10_000])
def test_clocks_of_machines_need_not_agree(store, ahead_s):
    record(store, 5, beat=time.time() + ahead_s)
    started = time.monotonic()
    with lease(store, stale_s=STALE_S):
        assert time.monotonic() - started >= STALE_S
    record(store, 7, beat=time.time() + ahead_s, age_s=10_000)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started < 30
    assert [entry.path for entry in store.list(FOLDER)] == [f"{FOLDER}/{number:09d}.json" for number in (7, 8)]


def test_an_ended_process_of_this_machine_is_not_waited_for(store):
    code = (
        "import os, signal, sys; from pipeline.storage.lease import Lease; from pipeline.storage import Store\n"
        f"Lease(Store(sys.argv[1]), {FOLDER!r}, who='dead').__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, store.uri], check=False)
    started = time.monotonic()
    with lease(store):
        assert time.monotonic() - started < 30


def test_a_resumed_driver_finds_that_it_was_replaced_and_keeps_the_lease(store):
    lost = threading.Event()
    with lease(store, on_lost=lost.set):
        record(store, 2, who="successor")
        assert lost.wait(60)
    assert json.loads(store.read(f"{FOLDER}/000000002.json"))["who"] == "successor"
    assert not json.loads(store.read(f"{FOLDER}/000000002.json"))["released"]


def test_heartbeats_continue_after_a_failed_listing(store, tmp_path):
    def lead_to(target):
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").replace(tmp_path / FOLDER)

    (tmp_path / "leases" / "there").mkdir(parents=True)
    lead_to("there")
    with lease(store):
        lead_to("all")  # to itself: errors, and none of those that mean that nothing is there
        time.sleep(0.5)
        lead_to("there")
        seen, until = store.read(f"{FOLDER}/000000001.json"), time.monotonic() + 30
        while store.read(f"{FOLDER}/000000001.json") == seen:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_one_of_many_processes_takes_over_a_stale_lease(store):
    record(store, 5, age_s=10_000)
    got, refused = [], []

    def try_it(name):
        try:
            with lease(store, name):
                got.append(name)
                until = time.monotonic() + 60
                while len(refused) < 5 and time.monotonic() < until:
                    time.sleep(0.05)
        except LeaseHeldError:
            refused.append(name)

    threads = [threading.Thread(target=try_it, args=(f"run-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 5


class ListsTooEarly(Store):
    """Its first listing misses a lease that is created and one that is deleted meanwhile."""

    early = True

    def list(self, *given, **options):
        entries, self.early = ([] if self.early else super().list(*given, **options)), False
        return entries


def test_an_outdated_listing_does_not_give_a_second_lease(store):
    record(store, 5, age_s=10_000)
    with lease(store) as number, pytest.raises(LeaseHeldError), lease(ListsTooEarly(store.uri), "two"):
        pass
    assert number == 6
    assert [entry.path for entry in store.list(FOLDER)] == [f"{FOLDER}/{number:09d}.json" for number in (5, 6)]


def test_the_lease_before_the_last_stays(store):
    for _ in range(4):
        with lease(store):
            pass
    assert [entry.path for entry in store.list(FOLDER)] == [f"{FOLDER}/{number:09d}.json" for number in (3, 4)]


def test_a_process_of_another_container_of_this_host_is_not_dead(store):
    record(store, 5, host=socket.gethostname(), pids="pid:[1]")
    started = time.monotonic()
    with lease(store, stale_s=STALE_S):
        assert time.monotonic() - started >= STALE_S


def test_a_process_of_another_machine_of_this_name_is_not_dead(store):
    with lease(store):
        here = json.loads(store.read(f"{FOLDER}/000000001.json"))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record(store, 5, host=here["host"], pids=here["pids"].replace(boot, str(uuid.uuid4())))
    started = time.monotonic()
    with lease(store, stale_s=STALE_S):
        assert time.monotonic() - started >= STALE_S


def test_a_waiting_process_gets_a_released_lease(store):
    holder = lease(store)
    holder.__enter__()
    threading.Timer(0.5, holder.__exit__, (None, None, None)).start()
    with lease(store, "two", wait_s=60) as number:
        assert number == 2


def test_numbers_are_higher_than_those_used_elsewhere(store):
    with lease(store, above=7) as number:
        assert number == 8


def test_a_lease_whose_answer_was_lost_is_not_waited_for(s3, monkeypatch):
    troubles = ["lost answer"]
    with Proxy(s3.endpoint, trouble=lambda r: troubles.pop() if troubles and r.startswith("PUT ") else None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with lease(Store(s3.uri)) as number:
            assert (number, proxy.troubles["lost answer"]) == (1, 1)


def judged(*looks, wait_s=None):
    """Verdicts on heartbeats that are read at these times, with one every 10 s and 45 s until it is stale."""
    watch, verdicts = Watch(started=0, looked=0), []
    for now, heartbeat in looks:
        verdict, watch = judge(watch, heartbeat, now=now, wait_s=wait_s, beat_s=10, stale_s=45)
        verdicts.append(verdict)
    return verdicts


def test_a_holder_is_alive_once_its_heartbeat_changes():
    assert judged((0, b"1"), (5, b"1"), (10, b"2")) == ["wait", "wait", "held"]
    assert judged((0, b"1"), (10, b"2"), (21, b"3"), wait_s=20) == ["wait", "wait", "held"]


def test_a_heartbeat_is_stale_after_it_was_read_unchanged_for_long_enough():
    every_8_s = [(at, b"1") for at in range(0, 49, 8)]
    assert judged(*every_8_s) == ["wait"] * 6 + ["stale"]
    assert judged((0, b"1"), (46, b"1"), (54, b"1")) == ["wait"] * 3
    assert judged(*every_8_s[:6], (60, b"1"), *((60 + at, b"1") for at in range(8, 49, 8))) == ["wait"] * 12 + ["stale"]
