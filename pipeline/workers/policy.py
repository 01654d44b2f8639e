"""Scheduling policy: who labels what next, who is blamed for what, and when to give up. Pure: the clock is an argument.

The scheduler hears events (`worker_ready`, `finished`, `failed`, `worker_died`, ...) and answers `decide(now)` with
actions that a pool carries out. It knows videos by their index in the plan only.

Blame. A video that fails by an exception is charged at once. When a worker dies, hangs or runs out of memory with
one video in flight, that video is charged; with several, each becomes a suspect that runs once alone on a worker, which
makes the blame exact. A node that is lost or drained charges nobody.
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from pipeline.labels.attempts import ALONE, ATTEMPTS, NODE, Attempt
from pipeline.workers.actions import Abort, Action, Assign, Kill, Quarantine, Start, Stop

Numbers = Sequence[float] | npt.NDArray[Any]

STORAGE_BACKOFF_S = 5.0
"""Seconds before the second try of a video whose source or output did not answer; doubles with each further try."""

DEAR = 2.0
"""A worker with so many times the mean cost in hand gets nothing to wait behind it."""

DEADLINES_EVERY_S = 1.0
"""Deadlines are minutes: they are looked at so often and not at every event."""

START_S = 60.0
"""So long a worker that starts counts among those that will take their share."""

START_FAILURES = 3
"""So many workers in a row that cannot start, with none ready in between, end the run."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many workers run how many videos, and how long a video may take."""

    workers: int
    in_flight: int = 1
    """Videos handed to one worker at a time: its lanes, and one more whose decoding starts early."""
    deadline_floor_s: float = 900.0
    deadline_slack: float = 10.0
    """A video may take so many times what its cost predicts from the slowest video seen."""


@dataclass
class Flight:
    """A video in flight on a worker."""

    index: int
    cost: float
    started: float


@dataclass
class Worker:
    """A worker as the scheduler sees it."""

    name: str
    started: float = 0.0
    ready: bool = False
    draining: bool = False
    solo: bool = False
    flights: dict[int, Flight] = field(default_factory=dict)
    load: float = 0.0
    """Cost of what it has in hand."""

    def take(self, flight: Flight) -> None:
        self.flights[flight.index] = flight
        self.load += flight.cost

    def land(self, index: int) -> Flight:
        flight = self.flights.pop(index)
        self.load = self.load - flight.cost if self.flights else 0.0
        return flight


class Scheduler:
    """Hands videos, dearest first, to workers; retries by cause; quarantines; starts and stops workers.

    Args:
        order: indices of the pending videos, in the order they are handed out.
        costs: cost of every video by index, in any one unit.
        limits: number of workers, videos in flight, deadlines.
    """

    def __init__(self, order: Numbers, costs: Numbers, *, limits: Limits) -> None:
        self._order, self._costs, self.limits = order, costs, limits
        self._next = 0
        self._again: list[tuple[float, int, int]] = []  # (not before, tie-break, index): retries and put-backs
        self._suspects: list[int] = []
        self._attempts: dict[int, list[Attempt]] = {}
        self._quarantined: list[Quarantine] = []
        self._pace = 0.0  # seconds per unit of cost, of the slowest video seen
        self._started = 0
        self._start_failures: list[str] = []
        self._stopping = False
        self._look_at = 0.0
        self.workers: dict[str, Worker] = {}

    # --- events ---

    def worker_ready(self, name: str) -> None:
        """A worker has loaded its model."""
        self.workers[name].ready = True
        self._start_failures.clear()

    def worker_failed_to_start(self, name: str, message: str) -> None:
        """A worker could not load its model, or died while starting."""
        del self.workers[name]
        self._start_failures.append(message)

    def worker_draining(self, name: str) -> None:
        """The worker's node is being taken away: it finishes or checkpoints, and gets no new video."""
        self.workers[name].draining = True

    def finished(self, name: str, index: int, now: float) -> None:
        """A video's labels are committed."""
        flight = self._land(name, index)
        if flight.cost > 0:
            self._pace = max(self._pace, (now - flight.started) / flight.cost)

    def failed(self, name: str, index: int, attempt: Attempt, now: float) -> None:
        """A worker reports that a video failed, and lives on."""
        self._land(name, index)
        self._charge(index, attempt, now)

    def put_back(self, name: str, index: int, now: float) -> None:
        """A worker gives a video back unlabelled (it was asked to stop): it costs no attempt."""
        self._land(name, index)
        heapq.heappush(self._again, (now, index, index))

    def worker_died(self, name: str, attempt: Attempt, now: float) -> None:
        """A worker is gone with whatever it had in flight; `attempt.cause` says why."""
        worker = self.workers.pop(name)
        flights = list(worker.flights.values())
        if not worker.ready and not flights:
            self._start_failures += [attempt.message] if attempt.cause != NODE else []
        elif attempt.cause == NODE or len(flights) == 1:
            for flight in flights:
                self._charge(flight.index, attempt, now)
        else:
            self._suspects += [flight.index for flight in flights]

    def stop(self) -> None:
        """Hand out nothing more. What is in flight may finish."""
        self._stopping = True

    # --- decisions ---

    def decide(self, now: float) -> list[Action]:
        """What to do now. Call after every event and once in a while for deadlines and back-offs."""
        if len(self._start_failures) >= START_FAILURES:
            return [Abort(self._start_failures[-1])]
        actions: list[Action] = [*self._quarantined]
        self._quarantined.clear()
        actions += self._kills(now)
        killed = {action.worker for action in actions if isinstance(action, Kill)}
        if not self._stopping:
            able = [worker for worker in self.workers.values() if worker.ready and not worker.draining]
            actions += self._assignments([worker for worker in able if worker.name not in killed], now)
        actions += self._resize(now)
        return actions

    @property
    def starts(self) -> int:
        """Workers started so far."""
        return self._started

    @property
    def over(self) -> bool:
        """Nothing is in flight and nothing more will be handed out."""
        return (self._stopping or self.waiting == 0) and not self._quarantined and not self.in_flight

    @property
    def in_flight(self) -> int:
        """Videos in the hands of workers."""
        return sum(len(worker.flights) for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        """Videos not in flight that are still to be labelled."""
        return len(self._order) - self._next + len(self._again) + len(self._suspects)

    def deadline_s(self, cost: float) -> float:
        """Seconds a video of this cost may take: a multiple of what the slowest pace seen predicts, with a floor."""
        return max(self.limits.deadline_floor_s, self.limits.deadline_slack * self._pace * cost)

    def attempts(self, index: int) -> tuple[Attempt, ...]:
        """The failed tries of a video so far."""
        return tuple(self._attempts.get(index, ()))

    # --- inside ---

    def _land(self, name: str, index: int) -> Flight:
        worker = self.workers[name]
        flight = worker.land(index)
        worker.solo = worker.solo and bool(worker.flights)
        return flight

    def _charge(self, index: int, attempt: Attempt, now: float) -> None:
        if attempt.cause == NODE:
            heapq.heappush(self._again, (now, index, index))
            return
        attempts = self._attempts.setdefault(index, [])
        attempts.append(attempt)
        tries = sum(past.cause == attempt.cause for past in attempts)
        if tries >= ATTEMPTS.get(attempt.cause, 1):
            self._quarantined.append(Quarantine(index, tuple(attempts)))
        elif attempt.cause in ALONE:
            self._suspects.append(index)
        else:
            delay = STORAGE_BACKOFF_S * 2 ** (tries - 1) if attempt.cause == "storage" else 0.0
            heapq.heappush(self._again, (now + delay, index, index))

    def _kills(self, now: float) -> Iterator[Kill]:
        if now < self._look_at:
            return
        self._look_at = now + DEADLINES_EVERY_S
        for worker in self.workers.values():
            # Videos of one worker share it, so the oldest one has been given the time of all of them.
            allowed = sum(self.deadline_s(flight.cost) for flight in worker.flights.values())
            late = [flight for flight in worker.flights.values() if now - flight.started > allowed]
            if late:
                yield Kill(worker.name, f"not done after {now - late[0].started:.0f} s, allowed were {allowed:.0f} s")

    def _set_aside(self) -> set[str]:
        """Workers that run dry, to have suspects alone: no more than were lost, and those that have least to finish."""
        if not self._suspects:
            return set()
        solo = sum(worker.solo for worker in self.workers.values())
        wanted = math.ceil((len(self._suspects) + solo) / self.limits.in_flight) - solo
        others = [worker for worker in self.workers.values() if not worker.solo and not worker.draining]
        return {worker.name for worker in sorted(others, key=lambda each: len(each.flights))[: max(0, wanted)]}

    def _assignments(self, workers: list[Worker], now: float) -> Iterator[Assign]:
        """Hand out videos, each to the worker that has the fewest in hand, and of those the cheapest.

        The last place is for the video that is made ready while others are labelled. A worker with dear ones in hand
        does not get it: its video would wait where others have time.
        """
        places = self.limits.in_flight
        if self.waiting < places * self.limits.workers:
            places = min(places, math.ceil((self.waiting + self.in_flight) / self.limits.workers))
        free = [(len(worker.flights), worker.load, worker.name) for worker in workers if len(worker.flights) < places]
        if not free:
            return
        total = sum(worker.load for worker in workers)
        sharing = len(workers) + sum(not w.ready and now - w.started < START_S for w in self.workers.values())
        heapq.heapify(free)
        while free:
            count, load, name = heapq.heappop(free)
            last_place = count > 0 and count + 1 == self.limits.in_flight
            if count >= places or (last_place and load > DEAR * total / sharing):
                continue
            worker = self.workers[name]
            if (index := self._next_for(worker, now)) is not None:
                flight = Flight(index, float(self._costs[index]), now)
                worker.take(flight)
                yield Assign(name, index)
                total += flight.cost
                heapq.heappush(free, (count + 1, worker.load, name))

    def _next_for(self, worker: Worker, now: float) -> int | None:
        """Take the next video for this worker; None where there is none that it may have."""
        if worker.solo:
            return None
        if self._suspects and not worker.flights:
            worker.solo = True
            return self._suspects.pop(0)
        if worker.name in self._set_aside():
            return None
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        if self._next < len(self._order):
            self._next += 1
            return int(self._order[self._next - 1])
        return None

    def _resize(self, now: float) -> Iterator[Start | Stop]:
        wanted = 0 if self._stopping else min(self.limits.workers, self.waiting)
        useful = [worker for worker in self.workers.values() if not worker.draining]
        idle = [worker for worker in useful if not worker.flights]
        busy = len(useful) - len(idle)
        spare = idle[min(wanted, self.limits.workers - busy) :]
        drained = [worker for worker in self.workers.values() if worker.draining and not worker.flights]
        for worker in [*spare, *drained]:
            del self.workers[worker.name]
            yield Stop(worker.name)
        for _ in range(min(wanted, self.limits.workers - busy) - len(idle)):
            name = f"worker-{self._started}"
            self._started += 1
            self.workers[name] = Worker(name, now)
            yield Start(name)
