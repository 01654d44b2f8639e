"""Leases with a heartbeat, without a lock service: one driver per shard of an output, one publisher per output.

A lease is a numbered file that another holder never replaces; the highest number is the valid one. A process takes over
by creating the next number, which only one process can do; a paused holder finds a higher number when it resumes. A
listing may miss files that are created or deleted at the same time, so the lease before the last is kept, and a new one
is valid only if no higher number exists after it was created. Labels do not depend on leases: parts are created once,
and tables refuse a publisher whose number is no longer the highest.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from pipeline.errors import StorageError, UsageError
from pipeline.storage.heartbeat import Watch, has_ended, judge, this_process
from pipeline.storage.paths import lease_path
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

BEAT_S = 10.0
STALE_S = 45.0
"""Seconds without a new heartbeat after which a lease is taken over."""
FORGOTTEN_S = 900.0
"""Age of the last heartbeat, in seconds, from which a lease is taken over at once."""


class LeaseHeldError(UsageError):
    """Another process, `holder`, has the lease."""

    def __init__(self, store: Store, holder: dict[str, Any]) -> None:
        self.holder = f"{holder['who']} (process {holder['pid']} on {holder['host']})"
        super().__init__(
            f"{store} is being labelled by {self.holder}; "
            "wait for it to end, or give both runs shards that share no video, such as --shard 1/2 and --shard 2/2"
        )


class Lease:
    """Holds a folder of an output; a context manager that gives the lease's number.

    Args:
        store: the output.
        folder: folder of the leases; each folder has its own holder.
        who: name of the holder, shown in the error of other processes.
        above: the lease's number is higher than this.
        wait_s: seconds to wait for a holder that is alive; None stops as soon as its heartbeat has changed.
        on_lost: called once, from another thread, when another process has taken over.
        beat_s: seconds between two heartbeats.
        stale_s: seconds without a new heartbeat after which a holder is presumed dead.

    Raises:
        LeaseHeldError: Another process holds it.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        *,
        who: str,
        above: int = 0,
        wait_s: float | None = None,
        on_lost: Callable[[], None] = lambda: None,
        beat_s: float = BEAT_S,
        stale_s: float = STALE_S,
    ) -> None:
        self._store, self._folder, self._above, self._wait_s = store, folder, above, wait_s
        self._on_lost, self._beat_s, self._stale_s = on_lost, beat_s, stale_s
        self._record = {"who": who, **this_process(), "id": uuid.uuid4().hex}
        self._number = 0
        self._over = threading.Event()

    def __enter__(self) -> int:
        while not self._take():
            time.sleep(self._beat_s / 10)
        self._thread = threading.Thread(target=self._keep, name=f"lease {self._folder}", daemon=True)
        self._thread.start()
        return self._number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(StorageError):  # the next one then waits until the heartbeat is stale
            if self._holds():
                self._beat(released=True)

    def _path(self, number: int) -> str:
        return lease_path(self._folder, number)

    def _holds(self) -> bool:
        return all(number <= self._number for number in _numbers(self._store, self._folder))

    def _take(self) -> bool:
        """Create the next number once the last one is free or stale; False if another process was faster."""
        numbers = wait_until_free(
            self._store, self._folder, wait_s=self._wait_s, beat_s=self._beat_s, stale_s=self._stale_s
        )
        self._number = max([self._above, *numbers]) + 1
        if not self._store.commit_once(self._path(self._number), self._data(released=False)):
            return False
        if not self._holds():  # the earlier listing is outdated
            self._store.delete(self._path(self._number))
            return False
        for number in numbers[:-1]:
            self._store.delete(self._path(number))
        return True

    def _keep(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                if not self._holds():
                    log.error("another process has taken over %s of %s", self._folder, self._store)
                    self._on_lost()
                    return
                self._beat(released=False)
            except StorageError as error:
                log.warning("cannot renew the lease: %s", error)

    def _beat(self, *, released: bool) -> None:
        self._store.put(self._path(self._number), self._data(released=released))

    def _data(self, *, released: bool) -> bytes:
        return json.dumps({**self._record, "beat": time.time(), "released": released}).encode()


def wait_until_free(
    store: Store, folder: str, *, wait_s: float | None = None, beat_s: float = BEAT_S, stale_s: float = STALE_S
) -> list[int]:
    """Wait until a folder's holder has released it, or is known or presumed to be dead; returns the numbers there.

    Raises:
        LeaseHeldError: The holder is alive, after `wait_s`.
    """
    if not (numbers := _numbers(store, folder)):
        return numbers
    path = lease_path(folder, numbers[-1])
    watch = Watch(started=time.monotonic(), looked=time.monotonic())
    while data := store.read_or_none(path):
        holder, first = json.loads(data), not watch.heartbeat
        if holder["released"] or has_ended(holder) or (first and _is_forgotten(store, path)):
            break
        verdict, watch = judge(watch, data, now=time.monotonic(), wait_s=wait_s, beat_s=beat_s, stale_s=stale_s)
        if verdict == "held":
            raise LeaseHeldError(store, holder)
        if verdict == "stale":
            log.warning("taking over from %s, which has sent no heartbeat for %.0f s", holder["who"], stale_s)
            break
        if first:
            log.info("waiting to see whether %s is alive", holder["who"])
        time.sleep(min(1.0, beat_s / 4))
    return numbers


def _numbers(store: Store, folder: str) -> list[int]:
    names = (entry.path.rpartition("/")[2] for entry in store.list(folder))
    return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())


def _is_forgotten(store: Store, path: str) -> bool:
    """Whether the last heartbeat is old by the storage's clock, which is read from a probe written now."""
    probe = f"{path.rpartition('/')[0]}/{uuid.uuid4().hex}.probe"
    store.put(probe, b"")
    now, beat = store.info(probe), store.info(path)
    store.delete(probe)
    return bool(now and beat and beat.mtime and now.mtime - beat.mtime > FORGOTTEN_S)
