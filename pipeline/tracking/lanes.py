"""Lanes: propagations of several videos whose work is done together, in lock-step.

There is no thread of its own: whoever completes a batch runs it for all. A lane that does not come back in time (its
consumer is slow, or has put it aside) is not waited for again until it asks for work, so nobody can hold up the others.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Work = TypeVar("Work")
Done = TypeVar("Done")

_LEAST_PATIENCE_S = 0.002
_MOST_PATIENCE_S = 0.2


class _Request(Generic[Work, Done]):
    def __init__(self, lane: object, work: Work, now: float) -> None:
        self.lane = lane
        self.work = work
        self.since = now
        self.done: Done | None = None
        self.error: BaseException | None = None

    @property
    def open(self) -> bool:
        return self.done is None and self.error is None


class Lanes(Generic[Work, Done]):
    def __init__(self, run: Callable[[Sequence[Work]], Sequence[Done]], *, most: int) -> None:
        """`run` does up to `most` lanes' work; it must not change anything when it raises."""
        self._run = run
        self.most = most
        self._changed = threading.Condition()
        self._present: set[object] = set()
        """Lanes that are waited for."""
        self._open: set[object] = set()
        self._waiting: list[_Request[Work, Done]] = []
        self._running = False
        self._patience_s = _LEAST_PATIENCE_S

    def __len__(self) -> int:
        return len(self._open)

    def join(self, lane: object) -> None:
        with self._changed:
            self._open.add(lane)
            self._present.add(lane)

    def leave(self, lane: object) -> None:
        with self._changed:
            self._open.discard(lane)
            self._present.discard(lane)
            self._changed.notify_all()

    def submit(self, lane: object, work: Work) -> Done:
        """The work's result, once it was done together with that of the other lanes."""
        request: _Request[Work, Done] = _Request(lane, work, time.monotonic())
        with self._changed:
            if lane in self._open:
                self._present.add(lane)
            self._waiting.append(request)
            self._changed.notify_all()
            while request.open:
                if self._running:
                    self._changed.wait()
                elif (missing_s := self._missing_s(time.monotonic())) > 0:
                    self._changed.wait(missing_s)
                else:
                    self._run_batch()
        if request.error is not None:
            raise request.error
        assert request.done is not None
        return request.done

    def _missing_s(self, now: float) -> float:
        """How long to wait for more lanes; 0 when the batch is complete or has waited enough."""
        asking = {request.lane for request in self._waiting}
        missing = self._present - asking
        if len(asking) >= self.most or not missing:
            return 0.0
        left = self._waiting[0].since + self._patience_s - now
        if left > 0:
            return left
        self._present -= missing
        return 0.0

    def _run_batch(self) -> None:
        """Called with the lock held; runs without it."""
        batch, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
        self._running = True
        self._changed.release()
        started = time.monotonic()
        try:
            self._do(batch)
        finally:
            self._changed.acquire()
            self._waiting = [
                request for request in batch if request.open
            ] + self._waiting  # interrupted: left to others
            now = time.monotonic()
            for request in self._waiting:
                request.since = now
            self._patience_s = min(_MOST_PATIENCE_S, max(_LEAST_PATIENCE_S, (now - started) / 2))
            self._running = False
            self._changed.notify_all()

    def _do(self, batch: Sequence[_Request[Work, Done]]) -> None:
        try:
            results = self._run([request.work for request in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            logger.warning("A batch of %d lanes failed (%s); running them one by one.", len(batch), error)
            for request in batch:
                self._do([request])
            return
        for request, done in zip(batch, results, strict=True):
            request.done = done
