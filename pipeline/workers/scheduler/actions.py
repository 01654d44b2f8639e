"""Actions of the scheduler, which the pool carries out in the order returned."""

from dataclasses import dataclass

from pipeline.labels.failures import Attempt


@dataclass(frozen=True)
class Start:
    """Start a worker of this name."""

    worker: str


@dataclass(frozen=True)
class Assign:
    """Send the video at `index` to the worker."""

    worker: str
    index: int


@dataclass(frozen=True)
class Stop:
    """End an idle worker: no video is left for it."""

    worker: str


@dataclass(frozen=True)
class Kill:
    """Kill a worker whose video is past its deadline; then call `worker_died(..., cause="deadline")`."""

    worker: str
    message: str


@dataclass(frozen=True)
class Quarantine:
    """The video at `index` has used up its attempts by one cause."""

    index: int
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True)
class Abort:
    """Workers cannot start: end the run with this reason."""

    reason: str


Action = Start | Assign | Stop | Kill | Quarantine | Abort
