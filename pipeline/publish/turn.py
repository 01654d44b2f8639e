"""One publisher at a time, without a lock service: numbered turns, each taken by one create-only put.

A publisher that was thought dead and wakes up cannot do harm: every table commit carries its turn's number and is
refused once a later turn has written (see tables.py).
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from pipeline.errors import StorageError
from pipeline.store import Store

log = logging.getLogger(__name__)

TURNS = "publish/turns"
BEAT_S = 5.0
STALE_S = 30.0
"""A holder on another machine counts as dead when its heartbeat has not changed for this long."""
WAIT_S = 1800.0


@contextlib.contextmanager
def take_turn(
    store: Store,
    *,
    above: int = 0,
    wait_s: float = WAIT_S,
    stale_s: float = STALE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[int]:
    """Wait for the publisher at work, if any, then hold the next turn; gives its number, greater than `above`.

    Raises:
        StorageError: The other publisher is still at work after `wait_s`.
    """
    number = _take(store, above, wait_s, stale_s, clock, sleep)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, number, stop), name="publish-heartbeat", daemon=True)
    beating.start()
    try:
        yield number
    finally:
        stop.set()
        beating.join()
        with contextlib.suppress(StorageError):  # the next publisher then finds out by itself
            store.put(_path(number, "done"), b"")
            store.delete(_path(number, "beat"))


def _take(
    store: Store, above: int, wait_s: float, stale_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> int:
    deadline, seen, since, said = clock() + wait_s, b"", clock(), 0
    holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}).encode()
    while True:
        names = {entry.path.rpartition("/")[2] for entry in store.list(TURNS)}
        numbers = sorted(int(name.partition(".")[0]) for name in names if name.endswith(".json"))
        last = numbers[-1] if numbers else 0
        beat = store.read_or_none(_path(last, "beat")) or b""
        if beat != seen:
            seen, since = beat, clock()
        free = not last or f"{last:010}.done" in names or clock() - since > stale_s or _died_here(store, last)
        if free:
            number = max(last, above) + 1
            if store.commit_once(_path(number, "json"), holder):
                for old in names:
                    if int(old.partition(".")[0]) < number:
                        store.delete(f"{TURNS}/{old}")
                return number
            seen = b""
        elif clock() > deadline:
            raise StorageError(
                f"cannot publish to {store}: another publisher has been at work for {wait_s:.0f} s "
                f"({_holder(store, last)}); try again when it has finished"
            )
        else:
            if said != last:
                log.info("waiting for another publisher (%s)", _holder(store, last))
                said = last
            sleep(min(1.0, stale_s / 4))


def _beat(store: Store, number: int, stop: threading.Event) -> None:
    count = 0
    while True:
        count += 1
        with contextlib.suppress(StorageError):
            store.put(_path(number, "beat"), b"%d" % count)
        if stop.wait(BEAT_S):
            return


def _died_here(store: Store, number: int) -> bool:
    """Whether the holder was a process of this machine that is gone: no need to wait for its heartbeat."""
    found = json.loads(store.read_or_none(_path(number, "json")) or b"{}")
    if found.get("host") != socket.gethostname() or found.get("pid") == os.getpid():
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _holder(store: Store, number: int) -> str:
    found = json.loads(store.read_or_none(_path(number, "json")) or b"{}")
    return f"process {found.get('pid')} on {found.get('host')}"


def _path(number: int, kind: str) -> str:
    return f"{TURNS}/{number:010}.{kind}"
