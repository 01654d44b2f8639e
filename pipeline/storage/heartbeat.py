"""Whether the holder of a lease is alive, judged by its heartbeats alone, since clocks of machines may differ."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["held", "stale", "wait"]


@dataclass(frozen=True)
class Watch:
    """Observations of a holder by a waiting process, in seconds of the waiting process's monotonic clock."""

    started: float
    """When it began to wait."""
    looked: float
    """When it last read the heartbeat."""
    heartbeat: bytes = b""
    """The heartbeat that it read; empty before the first."""
    since: float = 0.0
    """Since when the holder's heartbeat is known to be this one."""


def judge(
    watch: Watch, heartbeat: bytes, *, now: float, wait_s: float | None, beat_s: float, stale_s: float
) -> tuple[Verdict, Watch]:
    """Whether a lease is held, stale or not known yet, and the updated observations.

    The holder is alive once its heartbeat has changed, and presumed dead when the heartbeat is the same for `stale_s`.
    Time in which the heartbeat was not read does not count: slow storage may delay the holder, too.

    Args:
        watch: the observations so far.
        heartbeat: the heartbeat just read.
        now: when it was read.
        wait_s: seconds to wait for a holder that is alive; None stops as soon as it is known to be alive.
        beat_s: time between two heartbeats.
        stale_s: seconds for which a heartbeat may stay the same.
    """
    changed = heartbeat != watch.heartbeat
    unread = now - watch.looked > beat_s
    since = now if changed or unread else watch.since
    seen = Watch(started=watch.started, looked=now, heartbeat=heartbeat, since=since)
    alive = changed and bool(watch.heartbeat)
    if alive if wait_s is None else now - watch.started > wait_s:
        return "held", seen
    return ("stale" if now - since >= stale_s and not (changed or unread) else "wait"), seen


def this_process() -> dict[str, Any]:
    """Identity of a process among those of all machines."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pids": _pid_namespace(), "pid": pid, "born": _born(pid)}


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False for one of another machine or container."""
    here = process["pids"] is not None and (process["host"], process["pids"]) == (
        socket.gethostname(),
        _pid_namespace(),
    )
    return here and process["born"] is not None and _born(process["pid"]) != process["born"]


def _pid_namespace() -> str | None:
    """The boot id of a machine and the namespace of its process ids; None if the system does not provide them.

    Host names may repeat. Containers of one host have separate process ids; outside of containers the namespaces of
    all machines have the same name.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None if it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
