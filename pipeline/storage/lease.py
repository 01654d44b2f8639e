"""One at a time, without a lock service: leases with a heartbeat, for drivers of an output and for its publishers.

A lease is a numbered file, created and never replaced by another holder; the highest number holds. Taking over means
creating the next number, which only one can do; a holder that was paused sees a higher number when it wakes up. A
listing of a folder may miss what is created and what is deleted while it runs, so the lease before the last stays, and
a new one holds only when nothing higher is there after it was created. Labels do not depend on it: parts are created
once, and tables refuse a publisher whose number is no longer the highest.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import StorageError, UsageError
from pipeline.storage.paths import lease_path
from pipeline.storage.store import Store

log = logging.getLogger(__name__)

BEAT_S = 10.0
STALE_S = 45.0
"""A lease whose heartbeat stands still for so long is taken over."""
FORGOTTEN_S = 900.0
"""A heart that has stood still for so long is not waited for."""


class LeaseHeldError(UsageError):
    """Another holder is at work. Its record is in `holder`."""

    def __init__(self, store: Store, holder: dict[str, Any]) -> None:
        self.holder = f"{holder['who']} (process {holder['pid']} on {holder['host']})"
        super().__init__(
            f"{store} is being labelled by {self.holder}; "
            "wait for it, or give both runs shards that share no video, as --shard 1/2 and --shard 2/2"
        )


class Lease:
    """Holds a folder of an output; a context manager that gives the lease's number.

    Args:
        store: the output.
        folder: where the leases lie; holders of different folders do not meet.
        who: the holder, for whoever is refused.
        above: the lease's number is higher than this.
        wait_s: how long to wait for a living holder; by default not at all, once its heart is seen to beat.
        on_lost: called once, from another thread, when another holder has taken over.

    Raises:
        LeaseHeldError: Another holder is alive.
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
        pid = os.getpid()
        self._record = {"who": who, "host": socket.gethostname(), "pids": _pids(), "pid": pid, "born": _born(pid)}
        self._record["id"] = uuid.uuid4().hex
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
        with suppress(StorageError):  # whoever comes next then finds out by itself
            if self._holds():
                self._beat(released=True)

    def _path(self, number: int) -> str:
        return lease_path(self._folder, number)

    def _holds(self) -> bool:
        return all(number <= self._number for number in _numbers(self._store, self._folder))

    def _take(self) -> bool:
        """Create the next number if the last one is free or stale; False when another was quicker."""
        numbers = wait_until_free(
            self._store, self._folder, wait_s=self._wait_s, beat_s=self._beat_s, stale_s=self._stale_s
        )
        self._number = max([self._above, *numbers]) + 1
        if not self._store.commit_once(self._path(self._number), self._data(released=False)):
            return False
        if not self._holds():  # what was listed before is outdated
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
    """Return when a folder's holder has released it, or is known or presumed to be dead: the numbers that lay there.

    Raises:
        LeaseHeldError: The holder is alive, after `wait_s`.
    """
    if not (numbers := _numbers(store, folder)):
        return numbers
    started = looked = since = time.monotonic()
    seen = b""
    while data := store.read_or_none(path := lease_path(folder, numbers[-1])):
        holder, now = json.loads(data), time.monotonic()
        # A storage that let us wait may have let the holder wait: not to have looked proves nothing.
        blind, looked = now - looked > beat_s, now
        if _is_free(holder) or (not seen and _is_forgotten(store, path)):
            break
        alive = bool(seen) and data != seen
        if alive if wait_s is None else now - started > wait_s:
            raise LeaseHeldError(store, holder)
        if not seen:
            log.info("waiting to see whether %s is alive", holder["who"])
        if data != seen or blind:
            seen, since = data, now
        elif now - since >= stale_s:
            log.warning("taking over from %s, whose heartbeat stands still", holder["who"])
            break
        time.sleep(min(1.0, beat_s / 4))
    return numbers


def _numbers(store: Store, folder: str) -> list[int]:
    names = (entry.path.rpartition("/")[2] for entry in store.list(folder))
    return sorted(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdigit())


def _is_free(record: dict[str, Any]) -> bool:
    """Released, or held by a process of this machine that is no more."""
    if record["released"]:
        return True
    here = record["pids"] is not None and (record["host"], record["pids"]) == (socket.gethostname(), _pids())
    return here and record["born"] is not None and _born(record["pid"]) != record["born"]


def _is_forgotten(store: Store, path: str) -> bool:
    """Whether the last heartbeat is long ago by the storage's own clock: those of two machines may differ by hours."""
    probe = f"{path.rpartition('/')[0]}/{uuid.uuid4().hex}.probe"
    store.put(probe, b"")
    now, beat = store.info(probe), store.info(path)
    store.delete(probe)
    return bool(now and beat and beat.mtime and now.mtime - beat.mtime > FORGOTTEN_S)


def _pids() -> str | None:
    """Which machine since which boot, and which namespace of process numbers: names of hosts may repeat.

    Containers of one host count their processes each on its own; outside of containers all machines' namespaces are
    called the same.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None when it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
