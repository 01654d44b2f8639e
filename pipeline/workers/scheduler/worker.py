"""The scheduler's record of a worker, and the limits that all workers share."""

from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of workers."""

    workers: int
    in_flight: int = 1
    """Videos assigned to one worker at a time: its lanes, and one more that is decoded ahead."""
    name: str = "worker"
    """Its workers are NAME-0, NAME-1, ..."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Numbers of workers and of videos on each, and how long a video may take."""

    kinds: tuple[Kind, ...]
    """The smallest one first."""
    deadline_floor_s: float = 900.0
    """Seconds that any video may take."""

    @cached_property
    def workers(self) -> int:
        """Number of workers of all kinds."""
        return sum(kind.workers for kind in self.kinds)

    @classmethod
    def of(cls, *, workers: int, in_flight: int = 1, deadline_floor_s: float = 900.0) -> "Limits":
        """Limits of workers that are all of one kind."""
        return cls(kinds=(Kind(workers=workers, in_flight=in_flight),), deadline_floor_s=deadline_floor_s)


@dataclass
class InFlight:
    """A video assigned to a worker."""

    index: int
    cost: float
    started: float
    """Seconds on the scheduler's clock."""


@dataclass
class Worker:
    """A worker and its in-flight videos."""

    name: str
    started: float = 0.0
    kind: int = 0
    """Its place in the kinds of the limits."""
    ready: bool = False
    draining: bool = False
    solo: bool = False
    """It has a suspect, and gets no other video until that is done."""
    in_flight: dict[int, InFlight] = field(default_factory=dict)
    """By index of the video, oldest first."""
    load: float = 0.0
    """Cost of its in-flight videos."""

    def assign(self, video: InFlight) -> None:
        """Add an in-flight video."""
        self.in_flight[video.index] = video
        self.load += video.cost

    def release(self, index: int) -> InFlight:
        """Remove and return an in-flight video."""
        video = self.in_flight.pop(index)
        self.load = self.load - video.cost if self.in_flight else 0.0
        self.solo = self.solo and bool(self.in_flight)
        return video
