"""The scheduling policy bound to Ray actors: one actor a worker, a fresh one after a death."""

import heapq
import itertools
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
from pipeline.labels.attempts import NODE, POISONED, Attempt
from pipeline.workers.actions import Abort, Assign, Kill, Quarantine, Start, Stop
from pipeline.workers.actor import ENVIRONMENT, Actor, Failure, Labels
from pipeline.workers.cluster import PoolError, Resources
from pipeline.workers.deaths import cause_of_death, draining_nodes, living_nodes
from pipeline.workers.policy import Limits, Numbers, Scheduler

log = logging.getLogger(__name__)

INTERRUPTED = InterruptedLabelingError.failure_class

NODE_DEATH_S = 20.0
"""Ray calls a node dead 10 to 15 seconds after its last sign of life: so long a death may still be the node's."""

TICK_S = 0.5
"""How often the driver looks at deadlines and progress, whatever else happens."""

NODES_EVERY_S = 2.0
"""How often it asks Ray which nodes are being drained; a cloud gives them 30 seconds and more."""

QUIET_S = 10.0
"""A worker that has said nothing for so long is asked for its progress; those that finish videos tell it unasked."""

POLLS_AT_ONCE = 2
"""Workers asked each time, so that many of them cost the driver no more than few."""


@dataclass(frozen=True)
class Finished:
    """The video at `index` is labelled; `outcome` is what the labeler returned, `attempts` what failed before."""

    index: int
    outcome: Any
    attempts: tuple[Attempt, ...]


Event = Finished | Quarantine
Answer = tuple[str, int | None, Future[Any]]
"""What a worker owed and now gives: its start (None), or the video at an index."""


class Pool:
    """Runs videos on Ray actors as the scheduler says.

    Args:
        build: makes a worker's labeler, inside its process.
        limits: workers, videos in flight, deadlines.
        resources: what an actor reserves.
        grace_s: how long actors may take to checkpoint after `stop`.
        log_ids: what every JSON log line of the workers carries, beside the worker's name.
    """

    def __init__(
        self,
        build: Callable[[], Labels],
        *,
        limits: Limits,
        resources: Resources,
        grace_s: float,
        log_ids: Mapping[str, str] | None = None,
    ) -> None:
        self._build, self._limits, self.resources, self._grace_s = build, limits, resources, grace_s
        self._log_ids = log_ids or {}
        self._stop_at = math.inf
        self._stop_asked = threading.Event()
        self._started_at: dict[str, float] = {}
        self._actor_seconds = 0.0
        self._actor_class: Any = ray.remote(Actor).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=limits.in_flight + 2,
            runtime_env={"env_vars": ENVIRONMENT},
            enable_task_events=False,  # Ray would report a million videos, and every poll, to its dashboard
        )
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._polls: dict[str, Future[dict[str, float]]] = {}
        self._progress: dict[str, dict[str, float]] = {}
        self._heard: dict[str, float] = {}
        self._retired: dict[str, float] = {}
        self.scheduler: Scheduler | None = None
        self._undecided: dict[str, tuple[float, str]] = {}  # deaths whose node may be gone: until when to look, why
        self.deaths: Counter[str] = Counter()
        """Workers that died or could not start, by cause."""

    def run(
        self, order: Numbers, costs: Numbers, *, make_task: Callable[[int, Sequence[Attempt]], Any]
    ) -> Iterator[Event | None]:
        """Label the videos at `order`; yields every end of a video as it comes, and None every half second.

        `make_task(index, attempts)` says what a worker is to do; `attempts` failed before.

        Raises:
            PoolError: Workers cannot start.
        """
        self.scheduler = Scheduler(order, costs, limits=self._limits)
        ticked = looked = time.monotonic()
        try:
            while True:
                came = [*self._listen(0.0)]  # an answer that is there counts before any deadline
                yield from [*came, *self._act(make_task)]
                if self.scheduler.over or time.monotonic() > self._stop_at:
                    return
                yield from self._listen(max(0.0, ticked + TICK_S - time.monotonic()))
                if time.monotonic() - ticked >= TICK_S:
                    ticked = time.monotonic()
                    self._poll()
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
        """Hand out nothing more, and have what is in flight saved and given back. Any thread may call this."""
        self._stop_asked.set()

    @property
    def workers(self) -> int:
        """Actors there are, starting ones included."""
        return len(self._actors)

    def flights(self) -> list[tuple[float, str, int]]:
        """Videos in hand: when each was handed out (seconds since the epoch), its worker, and its index."""
        workers = self.scheduler.workers.values() if self.scheduler else ()
        epoch = time.time() - time.monotonic()
        return [(epoch + flight.started, w.name, flight.index) for w in workers for flight in w.flights.values()]

    @property
    def actor_seconds(self) -> float:
        """How long actors have been held so far, all together."""
        return self._actor_seconds + sum(time.monotonic() - started for started in self._started_at.values())

    def progress(self) -> dict[str, float]:
        """Sum of all workers' running totals, ended ones included."""
        totals = dict(self._retired)
        for name, value in itertools.chain.from_iterable(p.items() for p in self._progress.values()):
            totals[name] = totals.get(name, 0.0) + value
        return totals

    # --- inside ---

    def _act(self, make_task: Callable[[int, Sequence[Attempt]], Any]) -> Iterator[Event]:
        """Do what the scheduler decides."""
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
        self._actors[worker] = actor = self._actor_class.remote()
        self._started_at[worker] = time.monotonic()
        self._expect(worker, None, actor.start.remote(self._build, {**self._log_ids, "worker": worker}))

    def _expect(self, worker: str, index: int | None, reference: "ray.ObjectRef[Any]") -> None:
        """Have the answer put into the queue when it comes: nothing is asked of what has not come."""
        reference.future().add_done_callback(lambda future: self._answers.put((worker, index, future)))

    def _end(self, worker: str) -> None:
        """Forget a worker and end its process; what it still owes is not waited for."""
        if worker not in self._actors:
            return  # it died, and only its blame is still open
        ray.kill(self._actors.pop(worker))
        self._actor_seconds += time.monotonic() - self._started_at.pop(worker)
        self._polls.pop(worker, None)
        self._heard.pop(worker, None)
        for name, value in self._progress.pop(worker, {}).items():
            self._retired[name] = self._retired.get(name, 0.0) + value

    def _listen(self, timeout_s: float) -> Iterator[Finished]:
        """Wait for an answer; tell the scheduler what came in, and yield the videos that are done."""
        while True:
            try:
                worker, index, answer = self._answers.get(timeout=timeout_s)
            except queue.Empty:
                return
            timeout_s = 0.0
            if worker in self._actors:  # otherwise it died or was ended meanwhile
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
            else:  # an actor gives failures back as values: what it gave could not be sent
                self.scheduler.failed(worker, index, self._attempt("exception", message, str(error), worker), now)
        except RayError as error:
            lost = worker in self._nodes and self._nodes[worker] not in living_nodes()
            cause, message = cause_of_death(error, node_lost=lost)
            self._end(worker)
            if cause == "killed" and self.scheduler.workers[worker].flights and len(living_nodes()) > 1:
                self.scheduler.worker_draining(worker)
                self._undecided[worker] = (now + NODE_DEATH_S, message)
            else:
                self._died(worker, cause, message)
        else:
            if index is None:
                self._nodes[worker] = result
                self._hear(worker, {}, now)
                self.scheduler.worker_ready(worker)
            else:
                result, progress = pickle.loads(result)
                self._hear(worker, progress, now)
                yield from self._take(worker, index, result, now)

    def _take(self, worker: str, index: int, result: Any, now: float) -> Iterator[Finished]:
        """A worker's own word on a video."""
        assert self.scheduler
        if not isinstance(result, Failure):
            self.scheduler.finished(worker, index, now)
            yield Finished(index, result, self.scheduler.attempts(index))
        elif result.cause == INTERRUPTED:
            self.scheduler.put_back(worker, index, now)
        elif result.cause in POISONED:
            self._end(worker)
            self._died(worker, result.cause, result.message, result.traceback)
        else:
            attempt = self._attempt(result.cause, result.message, result.traceback, worker)
            self.scheduler.failed(worker, index, attempt, now)

    def _poll(self) -> None:
        """Read the progress that workers were asked for, and ask those that have been quiet the longest."""
        now = time.monotonic()
        for worker, poll in list(self._polls.items()):
            if poll.done():
                del self._polls[worker]
                if not poll.exception():  # a dead worker's videos will tell why
                    self._hear(worker, poll.result(), now)
        quiet = [worker for worker in self._heard.keys() - self._polls.keys() if now - self._heard[worker] > QUIET_S]
        for worker in heapq.nsmallest(POLLS_AT_ONCE, quiet, key=self._heard.__getitem__):
            self._polls[worker] = self._actors[worker].progress.remote().future()

    def _hear(self, worker: str, progress: dict[str, float], now: float) -> None:
        self._progress[worker], self._heard[worker] = progress, now

    def _interrupt(self) -> None:
        """Pass a stop on to all actors."""
        assert self.scheduler
        if self._stop_asked.is_set() and math.isinf(self._stop_at):
            self._stop_at = time.monotonic() + self._grace_s
            self.scheduler.stop()
            self._drain(set(self._actors))

    def _leave_draining_nodes(self) -> None:
        draining = draining_nodes() if self._actors else set()
        self._drain({worker for worker in self._actors if self._nodes.get(worker) in draining})

    def _drain(self, workers: set[str]) -> None:
        """Hand these workers nothing more, and have them save what they have."""
        assert self.scheduler
        for worker in workers:
            if not self.scheduler.workers[worker].draining:
                self.scheduler.worker_draining(worker)
                self._actors[worker].stop.remote()

    def _decide(self) -> None:
        """Blame the deaths that were left open: on the node if that has turned out dead, else on the videos."""
        living = living_nodes() if self._undecided else set()
        for worker, (until, message) in list(self._undecided.items()):
            lost = self._nodes.get(worker) not in living
            if lost or time.monotonic() >= until:
                del self._undecided[worker]
                self._died(worker, NODE if lost else "killed", f"its node was lost: {message}" if lost else message)

    def _died(self, worker: str, cause: str, message: str, trace: str = "") -> None:
        assert self.scheduler
        log.warning("%s died (%s): %s", worker, cause, message)
        self.deaths[cause] += 1
        self.scheduler.worker_died(worker, self._attempt(cause, message, trace, worker), time.monotonic())

    def _attempt(self, cause: str, message: str, trace: str, worker: str) -> Attempt:
        return Attempt(cause, message, trace, f"{worker} on {self._nodes.get(worker, 'a node')[:12]}", time.time())
