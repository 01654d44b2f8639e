"""One driver per output: a lease with a heartbeat, so that two runs do not do the same work.

A lease is a numbered file, created and never replaced by another driver; the highest number holds the output. Taking
over means creating the next number, which only one can do; a driver that was paused sees a higher number when it wakes
up, and stops. Labels do not depend on it: parts are created once and tables replaced whole, whoever writes them.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pipeline.errors import StorageError, UsageError
from pipeline.store import Store

log = logging.getLogger(__name__)

FOLDER = "leases"
BEAT_S = 10.0
STALE_S = 45.0
"""A lease whose heartbeat stands still for so long is taken over."""
FORGOTTEN_S = 900.0
"""A heartbeat older than this is stale by any clock, and is not waited for."""


class LeaseHeldError(UsageError):
    """Another driver is at work on this output."""


class Lease:
    """Holds an output for one run; a context manager.

    Args:
        store: the output.
        run_id: who holds it.
        name: runs of different names may share an output: shards of one manifest.
        on_lost: called once, from another thread, when another driver has taken over.

    Raises:
        LeaseHeldError: Another driver's heartbeat is alive.
    """

    def __init__(
        self,
        store: Store,
        *,
        run_id: str,
        name: str = "all",
        on_lost: Callable[[], None],
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
    ) -> None:
        self._store, self._folder, self._on_lost = store, f"{FOLDER}/{name}", on_lost
        self._beat_s, self._stale_s = beat_s, stale_s
        self._record = {"run_id": run_id, "host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}
        self._number = 0
        self._over = threading.Event()

    def __enter__(self) -> "Lease":
        while not self._take():
            time.sleep(self._beat_s / 10)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._holds():
            self._beat(released=True)

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:09d}.json"

    def _numbers(self) -> list[int]:
        names = (entry.path.rpartition("/")[2] for entry in self._store.list(self._folder))
        return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())

    def _holds(self) -> bool:
        return self._numbers()[-1:] == [self._number]

    def _take(self) -> bool:
        """Create the next number if the last one is free or stale; False when another driver was quicker."""
        numbers = self._numbers()
        if numbers:
            self._wait_until_stale(numbers[-1])
        self._number = (numbers[-1] if numbers else 0) + 1
        if not self._store.commit_once(self._path(self._number), self._data(released=False)):
            return False
        for number in numbers:
            self._store.delete(self._path(number))
        return True

    def _wait_until_stale(self, number: int) -> None:
        first = self._store.read_or_none(self._path(number))
        started = time.monotonic()
        while first is not None and not _is_free(json.loads(first)):
            if time.monotonic() - started >= self._stale_s:
                log.warning("taking over from %s, whose heartbeat stands still", json.loads(first)["run_id"])
                return
            time.sleep(min(1.0, self._beat_s / 4))
            if (now := self._store.read_or_none(self._path(number))) != first:
                if now is None or _is_free(json.loads(now)):
                    return
                holder = json.loads(now)
                raise LeaseHeldError(
                    f"{self._store} is being labelled by run {holder['run_id']} (process {holder['pid']} on "
                    f"{holder['host']}); wait for it, or give both runs a --shard of their own"
                )
            log.info("waiting to see whether run %s is alive", json.loads(first)["run_id"])

    def _keep(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                if not self._holds():
                    log.error("another driver has taken over %s; this one stops", self._store)
                    self._on_lost()
                    return
                self._beat(released=False)
            except StorageError as error:
                log.warning("cannot renew the lease: %s", error)

    def _beat(self, *, released: bool) -> None:
        self._store.put(self._path(self._number), self._data(released=released))

    def _data(self, *, released: bool) -> bytes:
        return json.dumps({**self._record, "beat": time.time(), "released": released}).encode()


def _is_free(record: dict[str, object]) -> bool:
    """Released, forgotten long ago, or held by a process of this machine that is no more."""
    beat, pid = float(str(record["beat"])), int(str(record["pid"]))
    if record["released"] or time.time() - beat > FORGOTTEN_S:
        return True
    return record["host"] == socket.gethostname() and record["born"] is not None and _born(pid) != record["born"]


def _born(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None when it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
