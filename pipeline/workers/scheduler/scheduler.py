"""Decisions about videos and workers, from events and the time.

Blame: a video that fails by an exception is charged an attempt at once. When a worker dies, hangs or runs out of memory
with one video in flight, that video is charged; with several, each becomes a suspect that runs once alone on a worker,
which identifies the cause. A node that is lost or drained charges no video.

Kinds of workers are numbered from the smallest. A video that ran out of memory on one kind is retried on a larger one;
only attempts on the largest kind count towards quarantine.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.labels.failures import MAX_ATTEMPTS, RETRY_SOLO, Attempt
from pipeline.workers.scheduler.actions import Abort, Action, Assign, Kill, Quarantine, Start, Stop
from pipeline.workers.scheduler.waiting import Numbers, Waiting
from pipeline.workers.scheduler.worker import InFlight, Limits, Worker

NODE_LOST = "node"
"""Cause of a worker's death that charges no video: its node was lost or drained."""

STORAGE_BACKOFF_S = 5.0
"""Seconds before the second attempt at a video whose source or output did not respond; doubled for each further one."""

EXPENSIVE_RATIO = 2.0
"""Workers above this multiple of the mean load get no queued video."""

DEADLINE_RATIO = 10.0
"""A video may take this multiple of what its cost predicts from the slowest video so far."""

DEADLINE_CHECK_S = 1.0
"""Seconds between two checks of the deadlines, which are minutes."""

START_S = 60.0
"""Seconds for which a starting worker counts among those that share the load."""

MAX_START_FAILURES = 3
"""Consecutive workers of a kind that fail to start, with none ready in between, after which no more are started; the
run ends when this holds for all kinds."""


class Scheduler:
    """Assigns videos, most expensive first, to workers; retries by cause; quarantines; starts and stops workers.

    Args:
        order: indices of the pending videos, in the order in which they are assigned.
        costs: cost of every video by index, in any one unit.
        limits: number of workers of each kind, videos in flight, deadlines.
        smallest: of every video by index the smallest kind of workers that it fits (default: 0).
        priorities: of every video by index (default: all equal); matters only where there are several kinds.
        copies: duplicates of a video by its index. They wait until it is labelled; if it goes to quarantine, the first
            of them takes its place.
    """

    def __init__(
        self,
        order: Numbers,
        costs: Numbers,
        *,
        limits: Limits,
        smallest: Numbers | None = None,
        priorities: Numbers | None = None,
        copies: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        self._copies = {index: list(others) for index, others in (copies or {}).items()}
        self._sources: dict[int, int] = {}
        self._costs, self.limits = costs, limits
        self._waiting = Waiting(order, kinds=len(limits.kinds), smallest=smallest, priorities=priorities)
        self._attempts: dict[int, list[Attempt]] = {}
        self._quarantined: list[Quarantine] = []
        self._pace = 0.0  # seconds per unit of cost, of the slowest video so far
        self._started = 0
        self._start_failures: dict[int, list[str]] = {kind: [] for kind in range(len(limits.kinds))}
        self._open_kinds = [*self._start_failures]
        """Kinds whose workers can start."""
        self._outgrown: Counter[int] = Counter()  # attempts that ran out of memory on a kind that is not the largest
        self._stopping = False
        self._next_deadline_check = 0.0
        self.workers: dict[str, Worker] = {}

    # --- events ---

    def worker_ready(self, name: str) -> None:
        """A worker has loaded its model."""
        self.workers[name].ready = True
        self._start_failures[self.workers[name].kind].clear()
        self._open_kinds = self._find_open_kinds()

    def worker_failed_to_start(self, name: str, message: str) -> None:
        """A worker could not load its model, or died while starting."""
        self._could_not_start(self.workers.pop(name), message)

    def worker_draining(self, name: str) -> None:
        """The worker's node is being drained: its videos finish or are checkpointed, and it gets no new one."""
        self.workers[name].draining = True

    def finished(self, name: str, index: int, now: float) -> None:
        """A video's labels are committed."""
        video = self.workers[name].release(index)
        if video.cost > 0:
            self._pace = max(self._pace, (now - video.started) / video.cost)
        for copy in self._copies.pop(index, ()):
            self._sources[copy] = index
            self._waiting.retry(copy, now)

    def failed(self, name: str, index: int, attempt: Attempt, now: float) -> None:
        """A video failed, and its worker continues."""
        worker = self.workers[name]
        worker.release(index)
        self._charge(index, attempt, now, worker.kind)

    def returned(self, name: str, index: int, now: float) -> None:
        """A stopped worker returns a video unlabelled, which costs no attempt."""
        self.workers[name].release(index)
        self._waiting.retry(index, now)

    def worker_died(self, name: str, attempt: Attempt, now: float) -> None:
        """A worker died with its in-flight videos; `attempt.cause` says why."""
        worker = self.workers.pop(name)
        indices = list(worker.in_flight)
        if attempt.cause == NODE_LOST:
            for index in indices:
                self._waiting.retry(index, now)
        elif not worker.ready and not indices:
            self._could_not_start(worker, attempt.message)
        elif len(indices) == 1:
            self._charge(indices[0], attempt, now, worker.kind)
        else:
            self._waiting.suspect(indices)

    def stop(self) -> None:
        """Assign no more videos. Those in flight may finish."""
        self._stopping = True

    # --- decisions ---

    def decide(self, now: float) -> list[Action]:
        """Actions to carry out now. Call after every event, and about once a second for deadlines and retries."""
        if not self._open_kinds:
            return [Abort(self._start_failures[0][-1])]
        actions: list[Action] = [*self._quarantined]
        self._quarantined.clear()
        actions += self._kills(now)
        killed = {action.worker for action in actions if isinstance(action, Kill)}
        if not self._stopping:
            able = [worker for worker in self.workers.values() if worker.ready and not worker.draining]
            able = [worker for worker in able if worker.name not in killed] if killed else able
            for kind in reversed(range(len(self.limits.kinds))):  # what only the largest kind may take is taken first
                actions += self._assignments(self._of_kind(able, kind), kind, now)
        for kind in range(len(self.limits.kinds)):
            actions += self._resize(kind, now)
        return actions

    @property
    def starts(self) -> int:
        """Workers started so far."""
        return self._started

    @property
    def over(self) -> bool:
        """Whether no video is in flight and none will be assigned."""
        return (self._stopping or self.waiting == 0) and not self._quarantined and not self.in_flight

    @property
    def in_flight(self) -> int:
        """Number of in-flight videos."""
        return sum(len(worker.in_flight) for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        """Number of videos that are neither labelled, in quarantine nor in flight."""
        copies = sum(map(len, self._copies.values())) if self._copies else 0
        return len(self._waiting) + copies

    def deadline_s(self, cost: float) -> float:
        """Seconds a video of this cost may take: a multiple of the slowest pace so far, with a floor."""
        return max(self.limits.deadline_floor_s, DEADLINE_RATIO * self._pace * cost)

    def source(self, index: int) -> int | None:
        """The labelled video that this one is a duplicate of, if it was labelled in this run."""
        return self._sources.get(index)

    def attempts(self, index: int) -> tuple[Attempt, ...]:
        """The failed attempts at a video so far."""
        return tuple(self._attempts.get(index, ()))

    # --- inside ---

    def _find_open_kinds(self) -> list[int]:
        return [kind for kind, failures in self._start_failures.items() if len(failures) < MAX_START_FAILURES]

    def _could_not_start(self, worker: Worker, message: str) -> None:
        self._start_failures[worker.kind].append(message)
        self._open_kinds = self._find_open_kinds()
        self._waiting.largest = max(self._open_kinds, default=0)

    def _charge(self, index: int, attempt: Attempt, now: float, kind: int) -> None:
        attempts = self._attempts.setdefault(index, [])
        attempts.append(attempt)
        larger = [each for each in self._open_kinds if each > kind]
        if attempt.cause == "oom" and larger:
            self._outgrown[index] += 1
            self._waiting.move(index, larger[0])
            self._waiting.suspect([index])
            return
        count = sum(past.cause == attempt.cause for past in attempts)
        count -= self._outgrown[index] if attempt.cause == "oom" else 0
        if count >= MAX_ATTEMPTS.get(attempt.cause, 1):
            self._quarantined.append(Quarantine(index, tuple(attempts)))
            if copies := self._copies.pop(index, None):
                self._waiting.retry(copies[0], now)
                self._copies |= {copies[0]: copies[1:]} if copies[1:] else {}
        elif attempt.cause in RETRY_SOLO:
            self._waiting.suspect([index])
        else:
            delay = STORAGE_BACKOFF_S * 2 ** (count - 1) if attempt.cause == "storage" else 0.0
            self._waiting.retry(index, now + delay)

    def _kills(self, now: float) -> Iterator[Kill]:
        if now < self._next_deadline_check:
            return
        self._next_deadline_check = now + DEADLINE_CHECK_S
        for worker in self.workers.values():
            # The videos of a worker share it, so each may take as long as all of them together.
            allowed = sum(self.deadline_s(video.cost) for video in worker.in_flight.values())
            late = [video for video in worker.in_flight.values() if now - video.started > allowed]
            if late:
                elapsed = now - late[0].started
                yield Kill(worker.name, f"not done after {elapsed:.0f} s; allowed are {allowed:.0f} s")

    def _reserved_for_suspects(self) -> set[str]:
        """Workers that get no new video so that they become free for suspects: as many as needed, least busy first."""
        reserved: set[str] = set()
        suspects = 0  # those that need at least this kind
        for kind, count in self._waiting.suspects().items():
            suspects += count
            able = [worker for worker in self.workers.values() if worker.kind >= min(kind, self._waiting.largest)]
            solo = sum(worker.solo for worker in able)
            places = max(each.in_flight for each in self.limits.kinds)
            wanted = math.ceil((suspects + solo) / places) - solo
            others = [worker for worker in able if not worker.solo and not worker.draining]
            least_busy = sorted(others, key=lambda each: (each.name not in reserved, len(each.in_flight)))
            reserved |= {worker.name for worker in least_busy[: max(0, wanted)]}
        return reserved

    def _of_kind(self, workers: list[Worker], kind: int) -> list[Worker]:
        return workers if len(self.limits.kinds) == 1 else [worker for worker in workers if worker.kind == kind]

    def _places(self, kind: int) -> int:
        """Videos that a worker of this kind may have: fewer where those that wait are shared out evenly."""
        places, waiting = self.limits.kinds[kind].in_flight, self.waiting
        if waiting >= places * self.limits.workers:
            return places
        sharing = [each for each in self._open_kinds if self._waiting.count(each)]
        workers = sum(self.limits.kinds[each].workers for each in sharing)
        if workers and waiting < places * workers:
            in_flight = sum(len(worker.in_flight) for worker in self.workers.values() if worker.kind in sharing)
            places = min(places, math.ceil((waiting + in_flight) / workers))
        return places

    def _assignments(self, workers: list[Worker], kind: int, now: float) -> Iterator[Assign]:
        """Assign videos, each to the worker with the fewest in flight, and of those the one with the lowest load.

        The last place of a worker is for the video that is decoded ahead. A worker with a high load does not get one:
        the video would wait there while other workers are free.
        """
        if not workers:
            return
        places = self._places(kind)
        free = [(len(each.in_flight), each.load, each.name) for each in workers if len(each.in_flight) < places]
        if not free:
            return
        total, sharing = sum([worker.load for worker in workers]), len(workers)
        if sharing < len(self.workers):
            others = self._of_kind([*self.workers.values()], kind)
            sharing += sum(not worker.ready and now - worker.started < START_S for worker in others)
        heapq.heapify(free)
        while free:
            count, load, name = heapq.heappop(free)
            last_place = count > 0 and count + 1 == self.limits.kinds[kind].in_flight
            if count >= places or (last_place and load > EXPENSIVE_RATIO * total / sharing):
                continue
            worker = self.workers[name]
            if (index := self._next_for(worker, now)) is not None:
                video = InFlight(index, float(self._costs[index]), now)
                worker.assign(video)
                yield Assign(name, index)
                total += video.cost
                heapq.heappush(free, (count + 1, worker.load, name))

    def _next_for(self, worker: Worker, now: float) -> int | None:
        """Take the next video for this worker; None if there is none that it may have."""
        if worker.solo:
            return None
        if not worker.in_flight and (suspect := self._waiting.take_suspect(worker.kind)) is not None:
            worker.solo = True
            return suspect
        if worker.name in self._reserved_for_suspects():
            return None
        return self._waiting.take(worker.kind, now)

    def _resize(self, kind: int, now: float) -> Iterator[Start | Stop]:
        limit, workers = self.limits.kinds[kind], self._of_kind([*self.workers.values()], kind)
        wanted = 0 if self._stopping else min(limit.workers, self._waiting.count(kind))
        draining = [worker for worker in workers if worker.draining]
        free = [worker for worker in workers if not worker.in_flight]
        idle = [worker for worker in free if not worker.draining]
        busy = len(workers) - len(draining) - len(idle)
        spare = idle[min(wanted, limit.workers - busy) :]
        drained = [worker for worker in free if worker.draining]
        for worker in [*spare, *drained]:
            del self.workers[worker.name]
            yield Stop(worker.name)
        missing = min(wanted, limit.workers - busy) - len(idle) if kind in self._open_kinds else 0
        for _ in range(missing):
            name = f"{limit.name}-{self._started}"
            self._started += 1
            self.workers[name] = Worker(name, now, kind)
            yield Start(name)
