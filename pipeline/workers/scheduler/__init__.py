"""The scheduling policy: which worker labels which video, retries, quarantine, deadlines, numbers of workers.

Pure: the clock is an argument. A `Scheduler` receives events (`worker_ready`, `finished`, `worker_died`, ...), and its
`decide(now)` returns actions, which a pool carries out.
"""

from pipeline.workers.scheduler.actions import Abort, Action, Assign, Kill, Quarantine, Start, Stop
from pipeline.workers.scheduler.scheduler import NODE_LOST, Scheduler
from pipeline.workers.scheduler.waiting import Numbers
from pipeline.workers.scheduler.worker import InFlight, Kind, Limits, Worker

__all__ = [
    "NODE_LOST",
    "Abort",
    "Action",
    "Assign",
    "InFlight",
    "Kill",
    "Kind",
    "Limits",
    "Numbers",
    "Quarantine",
    "Scheduler",
    "Start",
    "Stop",
    "Worker",
]
