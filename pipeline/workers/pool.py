"""The scheduler's actions carried out on Ray actors: one actor per worker, a new one after a death."""

import logging
import math
import pickle
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.errors import InterruptedLabelingError
from pipeline.labels.failures import WORKER_FATAL, Attempt
from pipeline.workers.actor import Actor, FailedVideo, LabelerProtocol
from pipeline.workers.address import PoolError
from pipeline.workers.causes import cause_of_death, draining_nodes, living_nodes
from pipeline.workers.cluster import Resources
from pipeline.workers.progress import WorkersProgress
from pipeline.workers.scheduler import (
    NODE_LOST,
    Abort,
    Assign,
    Kill,
    Limits,
    Numbers,
    Quarantine,
    Scheduler,
    Start,
    Stop,
)

log = logging.getLogger(__name__)

INTERRUPTED = InterruptedLabelingError.failure_class

NODE_DEATH_S = 20.0
"""Seconds after a worker's death in which its node may turn out dead: Ray declares that after 10 to 15 seconds."""

TICK_S = 0.5
"""Seconds between two checks of deadlines and progress."""

NODES_EVERY_S = 2.0
"""Seconds between two requests for draining nodes; clouds announce a drain 30 seconds or more ahead."""


@dataclass(frozen=True)
class Finished:
    """The video at `index` is labelled: the labeler's result, and the attempts that failed before."""

    index: int
    outcome: Any
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Workers of one kind."""

    build: Callable[[], LabelerProtocol]
    """Makes a worker's labeler, inside the worker's process."""
    resources: Resources
    """What an actor reserves."""


Event = Finished | Quarantine
Answer = tuple[str, int | None, Future[Any]]
"""A worker, the index of a video or None for the worker's start, and the result."""


class Pool:
    """Labels videos on Ray actors as the scheduler decides.

    Args:
        crews: the kinds of workers, smallest first.
        limits: workers, videos in flight, deadlines.
        grace_s: seconds that actors have to checkpoint after `stop`.
        log_ids: fields of every JSON log line of the workers, besides the worker's name.
    """

    def __init__(
        self,
        crews: Sequence[Crew],
        *,
        limits: Limits,
        grace_s: float,
        log_ids: Mapping[str, str] | None = None,
    ) -> None:
        self._crews, self._limits, self._grace_s = crews, limits, grace_s
        self._log_ids = log_ids or {}
        self._stop_at = math.inf
        self._stop_asked = threading.Event()
        self._started_at: dict[str, tuple[int, float]] = {}  # kind of the worker, and when it was started
        self._ended_s = [0.0] * len(crews)
        self._actor_classes: list[Any] = [
            ray.remote(Actor).options(
                **crew.resources.options(),
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=kind.in_flight + 2,
                enable_task_events=False,  # Ray would report every video and every poll to its dashboard
            )
            for crew, kind in zip(crews, limits.kinds, strict=True)
        ]
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._progress = WorkersProgress()
        self.scheduler: Scheduler | None = None
        self._undecided: dict[str, tuple[float, str]] = {}  # deaths whose node may be lost: when to decide, message
        self.deaths: Counter[str] = Counter()
        """Workers that died or could not start, by cause."""
        self.warnings: Counter[str] = Counter()
        """What the user must know of how workers label, with the number of workers."""

    def run(
        self,
        order: Numbers,
        costs: Numbers,
        *,
        make_task: Callable[[int, Sequence[Attempt]], Any],
        smallest: Numbers | None = None,
        priorities: Numbers | None = None,
        copies: Mapping[int, Sequence[int]] | None = None,
    ) -> Iterator[Event | None]:
        """Label the videos at `order`; yields each video that is labelled or in quarantine, and None every half second.

        Args:
            order: indices of the videos, in the order in which they are assigned.
            costs: cost of every video by index.
            make_task: makes a worker's task from the index of a video and its failed attempts.
            smallest: of every video by index the smallest kind of workers that it fits (default: 0).
            priorities: of every video by index, where there are several kinds.
            copies: duplicates of a video by its index, which wait until it is labelled.

        Raises:
            PoolError: Workers cannot start.
        """
        self.scheduler = Scheduler(
            order, costs, limits=self._limits, smallest=smallest, priorities=priorities, copies=copies
        )
        ticked = looked = time.monotonic()
        try:
            while True:
                events = [*self._listen(0.0)]  # a result that has arrived counts before any deadline
                yield from [*events, *self._act(make_task)]
                if self.scheduler.over or time.monotonic() > self._stop_at:
                    return
                yield from self._listen(max(0.0, ticked + TICK_S - time.monotonic()))
                if time.monotonic() - ticked >= TICK_S:
                    ticked = time.monotonic()
                    self._progress.poll(self._actors, ticked)
                    self._interrupt()
                    if ticked - looked >= NODES_EVERY_S:
                        looked = ticked
                        self._leave_draining_nodes()
                    self._decide()
                    yield None
        finally:
            for worker in list(self._actors):
                self._end(worker)

    def stop(self) -> None:
        """Assign no more videos; checkpoint and return those in flight. Any thread may call this."""
        self._stop_asked.set()

    def source(self, index: int) -> int | None:
        """The labelled video that this one is a duplicate of, if it was labelled in this run."""
        return self.scheduler.source(index) if self.scheduler else None

    @property
    def workers(self) -> int:
        """Number of actors, starting ones included."""
        return len(self._actors)

    def in_flight(self) -> list[tuple[float, str, int]]:
        """In-flight videos: when each was assigned (seconds since the epoch), its worker, and its index."""
        workers = self.scheduler.workers.values() if self.scheduler else ()
        epoch = time.time() - time.monotonic()
        return [(epoch + video.started, w.name, video.index) for w in workers for video in w.in_flight.values()]

    @property
    def actor_seconds(self) -> float:
        """Seconds for which actors have been held so far, summed over actors."""
        return sum(self._seconds())

    @property
    def gpu_seconds(self) -> float:
        """Seconds for which GPUs have been held so far, summed over actors."""
        return sum(seconds * crew.resources.gpus for seconds, crew in zip(self._seconds(), self._crews, strict=True))

    def progress(self) -> dict[str, float]:
        """Sum of all workers' running totals, ended ones included."""
        return self._progress.totals()

    # --- inside ---

    def _seconds(self) -> list[float]:
        """Seconds for which actors have been held so far, by kind."""
        seconds, now = list(self._ended_s), time.monotonic()
        for kind, started in self._started_at.values():
            seconds[kind] += now - started
        return seconds

    def _act(self, make_task: Callable[[int, Sequence[Attempt]], Any]) -> Iterator[Event]:
        """Carry out the scheduler's actions; yields quarantined videos."""
        assert self.scheduler
        for action in self.scheduler.decide(time.monotonic()):
            match action:
                case Start(worker):
                    self._start(worker)
                case Assign(worker, index):
                    task = make_task(index, self.scheduler.attempts(index))
                    self._expect(worker, index, self._actors[worker].label.remote(pickle.dumps(task)))
                case Stop(worker):
                    self._end(worker)
                case Kill(worker, message):
                    self._end(worker)
                    self._undecided.pop(worker, None)
                    self._died(worker, "deadline", message)
                case Quarantine():
                    yield action
                case Abort(reason):
                    raise PoolError(f"workers cannot start: {reason}")

    def _start(self, worker: str) -> None:
        assert self.scheduler
        kind = self.scheduler.workers[worker].kind
        self._actors[worker] = actor = self._actor_classes[kind].remote()
        self._started_at[worker] = kind, time.monotonic()
        self._expect(worker, None, actor.start.remote(self._crews[kind].build, {**self._log_ids, "worker": worker}))

    def _expect(self, worker: str, index: int | None, reference: "ray.ObjectRef[Any]") -> None:
        """Put the result into the queue when it arrives, so that the driver polls nothing."""
        reference.future().add_done_callback(lambda future: self._answers.put((worker, index, future)))

    def _end(self, worker: str) -> None:
        """Kill a worker's process without waiting for its results."""
        if worker not in self._actors:
            return  # it has died, and only the cause is undecided
        ray.kill(self._actors.pop(worker))
        kind, started = self._started_at.pop(worker)
        self._ended_s[kind] += time.monotonic() - started
        self._progress.end(worker)

    def _listen(self, timeout_s: float) -> Iterator[Finished]:
        """Wait for a result, pass all that have arrived to the scheduler, and yield the videos that are labelled."""
        while True:
            try:
                worker, index, answer = self._answers.get(timeout=timeout_s)
            except queue.Empty:
                return
            timeout_s = 0.0
            if worker in self._actors:  # else it has died or was ended
                yield from self._read(worker, index, answer)

    def _read(self, worker: str, index: int | None, answer: Future[Any]) -> Iterator[Finished]:
        assert self.scheduler
        now = time.monotonic()
        try:
            result = answer.result()
        except RayTaskError as error:
            message = str(error.cause or error)
            if index is None:
                self.deaths["start"] += 1
                self.scheduler.worker_failed_to_start(worker, message)
                self._end(worker)
            else:  # an actor returns failures as values, so its result could not be pickled
                self.scheduler.failed(worker, index, self._attempt("exception", message, str(error), worker), now)
        except RayError as error:
            lost = worker in self._nodes and self._nodes[worker] not in living_nodes()
            cause, message = cause_of_death(error, node_lost=lost)
            self._end(worker)
            if cause == "killed" and self.scheduler.workers[worker].in_flight and len(living_nodes()) > 1:
                self.scheduler.worker_draining(worker)
                self._undecided[worker] = (now + NODE_DEATH_S, message)
            else:
                self._died(worker, cause, message)
        else:
            if index is None:
                self._nodes[worker] = result.node_id
                self._warn(result.warnings)
                self._progress.hear(worker, {}, now)
                self.scheduler.worker_ready(worker)
            else:
                result, progress = pickle.loads(result)
                self._progress.hear(worker, progress, now)
                yield from self._take(worker, index, result, now)

    def _take(self, worker: str, index: int, result: Any, now: float) -> Iterator[Finished]:
        """Pass the result of a video to the scheduler."""
        assert self.scheduler
        if not isinstance(result, FailedVideo):
            self.scheduler.finished(worker, index, now)
            yield Finished(index, result, self.scheduler.attempts(index))
        elif result.cause == INTERRUPTED:
            self.scheduler.returned(worker, index, now)
        elif result.cause in WORKER_FATAL:
            self._end(worker)
            self._died(worker, result.cause, result.message, result.traceback)
        else:
            attempt = self._attempt(result.cause, result.message, result.traceback, worker)
            self.scheduler.failed(worker, index, attempt, now)

    def _interrupt(self) -> None:
        """Ask all actors to stop, once."""
        assert self.scheduler
        if self._stop_asked.is_set() and math.isinf(self._stop_at):
            self._stop_at = time.monotonic() + self._grace_s
            self.scheduler.stop()
            self._drain(set(self._actors))

    def _leave_draining_nodes(self) -> None:
        draining = draining_nodes() if self._actors else set()
        self._drain({worker for worker in self._actors if self._nodes.get(worker) in draining})

    def _drain(self, workers: set[str]) -> None:
        """Assign these workers no more videos, and have them checkpoint those in flight."""
        assert self.scheduler
        for worker in workers:
            if not self.scheduler.workers[worker].draining:
                self.scheduler.worker_draining(worker)
                self._actors[worker].stop.remote()

    def _decide(self) -> None:
        """Charge undecided deaths: to the node if it has turned out dead, else to the videos."""
        living = living_nodes() if self._undecided else set()
        for worker, (until, message) in list(self._undecided.items()):
            lost = self._nodes.get(worker) not in living
            if lost or time.monotonic() >= until:
                del self._undecided[worker]
                self._died(
                    worker, NODE_LOST if lost else "killed", f"its node was lost: {message}" if lost else message
                )

    def _died(self, worker: str, cause: str, message: str, trace: str = "") -> None:
        assert self.scheduler
        log.warning("%s died (%s): %s", worker, cause, message)
        self.deaths[cause] += 1
        self.scheduler.worker_died(worker, self._attempt(cause, message, trace, worker), time.monotonic())

    def _warn(self, warnings: Sequence[str]) -> None:
        """Count the warnings of a worker that has started, and log each one once."""
        for warning in warnings:
            if warning not in self.warnings:
                log.warning(warning)
            self.warnings[warning] += 1

    def _attempt(self, cause: str, message: str, trace: str, worker: str) -> Attempt:
        return Attempt(cause, message, trace, f"{worker} on {self._nodes.get(worker, 'a node')[:12]}", time.time())
