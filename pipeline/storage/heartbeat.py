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
    """What a waiting process has seen of a holder. Times are seconds of the waiting process's monotonic clock."""

    started: float
    """When it began to wait."""
    looked: float
    """When it last read the heartbeat."""
    heartbeat: bytes = b""
    """The heartbeat that it read; empty before the first."""
    since: float = 0.0
    """Since when the holder is known to have shown this heartbeat and no other."""


def judge(
    watch: Watch, heartbeat: bytes, *, now: float, wait_s: float | None, beat_s: float, stale_s: float
) -> tuple[Verdict, Watch]:
    """Whether a lease is held, stale or not known yet, and what has been seen by now.

    The holder is alive once its heartbeat has changed, and presumed dead when it has shown the same one for `stale_s`.
    Time in which the heartbeat was not read does not count: a storage that delayed us may have delayed the holder.

    Args:
        watch: what was seen before.
        heartbeat: what is read now.
        now: when it was read.
        wait_s: how long a holder that is alive is waited for; None for not at all, once it is known to be alive.
        beat_s: time between two heartbeats.
        stale_s: how long a heartbeat may stay the same.
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
    """What names a process among those of all machines."""
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
    """The boot of a machine and the namespace of its process ids; None where the system does not tell.

    Names of hosts may repeat. Containers of one host have process ids of their own; outside of containers the
    namespaces of all machines have the same name.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
