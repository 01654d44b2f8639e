"""Lanes: propagations of several videos whose steps run together, in one batch.

All batches run in one thread that lives as long as its `Lanes`, because cuDNN's plans and PyTorch's caches belong to a
thread: a thread per video would build them again for every video. A lane that does not ask within the time of one batch
(its consumer is slow or stopped) is not waited for until it asks again, so it cannot delay the others.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pipeline.tracking.clocks import BatchClock, HostClock

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Result = TypeVar("Result")

_MIN_PATIENCE_S = 0.002
_MAX_PATIENCE_S = 0.2


class _Ticket(Generic[Request, Result]):
    """One lane's request and what came of it."""

    def __init__(self, lane: object, request: Request, now: float) -> None:
        self.lane = lane
        self.request = request
        self.since = now
        self.result: Result | None = None
        self.error: BaseException | None = None

    @property
    def open(self) -> bool:
        return self.result is None and self.error is None


class Lanes(Generic[Request, Result]):
    """Collects the requests of several threads and runs them in batches."""

    def __init__(
        self,
        run: Callable[[Sequence[Request]], Sequence[Result]],
        *,
        max_lanes: int,
        clock: BatchClock | None = None,
    ) -> None:
        """`run` answers the requests of up to `max_lanes` lanes. If it raises, it must not have changed anything."""
        self.max_lanes = max_lanes
        self._run = run
        self._queue: _Queue[Request, Result] = _Queue(max_lanes, clock or HostClock())
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._queue.close)

    def __len__(self) -> int:
        return len(self._queue.open_lanes)

    def join(self, lane: object) -> None:
        """Open a lane: batches wait for it from now on."""
        self._queue.join(lane)

    def leave(self, lane: object) -> None:
        """Close a lane: batches no longer wait for it."""
        self._queue.leave(lane)

    def submit(self, lane: object, request: Request) -> Result:
        """The request's result, computed in one batch with the requests of other lanes."""
        with self._queue.changed:
            if self._thread is None:
                # The thread must not hold `self`, so that an engine that is dropped ends its thread.
                self._thread = threading.Thread(
                    target=_work, args=(self._queue, weakref.WeakMethod(self.answer)), name="stepping", daemon=True
                )
                self._thread.start()
        return self._queue.submit(lane, request)

    def answer(self, batch: "Sequence[_Ticket[Request, Result]]") -> None:
        """Run a batch. If it fails, its requests run one by one, so that only the lane at fault gets the error."""
        try:
            with self._queue.clock.measure():
                results = self._run([ticket.request for ticket in batch])
        except BaseException as error:  # handed to the waiting lane
            if len(batch) == 1 or not isinstance(error, Exception):
                for ticket in batch:
                    ticket.error = error
                return
            logger.warning("A batch of %d lanes failed (%s); running them one by one.", len(batch), error)
        else:
            for ticket, result in zip(batch, results, strict=True):
                ticket.result = result
            return
        for ticket in batch:
            self.answer([ticket])


class _Queue(Generic[Request, Result]):
    """The waiting requests, and the decision when they are a batch."""

    def __init__(self, max_lanes: int, clock: BatchClock) -> None:
        self.changed = threading.Condition()
        self.open_lanes: set[object] = set()
        self.clock = clock
        self._max_lanes = max_lanes
        self._expected: set[object] = set()
        """The open lanes that a batch waits for."""
        self._waiting: list[_Ticket[Request, Result]] = []
        self._closed = False

    def close(self) -> None:
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def join(self, lane: object) -> None:
        with self.changed:
            self.open_lanes.add(lane)
            self._expected.add(lane)

    def leave(self, lane: object) -> None:
        with self.changed:
            self.open_lanes.discard(lane)
            self._expected.discard(lane)
            self.changed.notify_all()

    def submit(self, lane: object, request: Request) -> Result:
        ticket: _Ticket[Request, Result] = _Ticket(lane, request, time.monotonic())
        with self.changed:
            if lane in self.open_lanes:
                self._expected.add(lane)
            self._waiting.append(ticket)
            self.changed.notify_all()
            try:
                while ticket.open:
                    self.changed.wait()
            finally:
                if ticket in self._waiting:  # interrupted
                    self._waiting.remove(ticket)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.result is not None
        return ticket.result

    def next_batch(self) -> list[_Ticket[Request, Result]]:
        """Wait for the next batch; an empty one once the queue is closed."""
        with self.changed:
            while not self._closed:
                if not self._waiting:
                    self.changed.wait()
                elif (missing_s := self._missing_s(time.monotonic())) > 0:
                    self.changed.wait(missing_s)
                else:
                    batch, self._waiting = self._waiting[: self._max_lanes], self._waiting[self._max_lanes :]
                    return batch
            return []

    def deliver(self) -> None:
        """Wake the lanes of the batch that was answered; the patience of those that wait begins now."""
        with self.changed:
            now = time.monotonic()
            for ticket in self._waiting:
                ticket.since = now
            self.changed.notify_all()

    def _missing_s(self, now: float) -> float:
        """Seconds to wait for more lanes; 0 when the batch is complete or has waited for the time of one batch."""
        asking = {ticket.lane for ticket in self._waiting}
        missing = self._expected - asking
        if len(asking) >= self._max_lanes or not missing:
            return 0.0
        patience_s = min(_MAX_PATIENCE_S, max(_MIN_PATIENCE_S, self.clock.batch_s))
        left = self._waiting[0].since + patience_s - now
        if left > 0:
            return left
        self._expected -= missing
        return 0.0


def _work(
    queue: _Queue[Request, Result],
    answer: "weakref.ReferenceType[Callable[[Sequence[_Ticket[Request, Result]]], None]]",
) -> None:
    """The stepping thread: answer batches until the queue is closed."""
    while batch := queue.next_batch():
        run = answer()
        if run is None:
            return
        run(batch)
        del run, batch  # an idle thread holds neither the engine nor tensors
        queue.deliver()
