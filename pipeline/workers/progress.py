"""Progress of the workers: their latest running totals, and which workers to poll for newer ones."""

import heapq
import itertools
from concurrent.futures import Future
from typing import Any

QUIET_S = 1.0
"""Seconds without a message after which a worker is polled for progress; results of videos include it."""

POLLS_AT_ONCE = 2
"""Workers polled at a time, so that the driver's work does not grow with their number."""


class WorkersProgress:
    """Running totals of a pool's workers, ended ones included."""

    def __init__(self) -> None:
        self._latest: dict[str, dict[str, float]] = {}
        self._heard_at: dict[str, float] = {}
        self._polls: dict[str, Future[dict[str, float]]] = {}
        self._ended: dict[str, float] = {}

    def hear(self, worker: str, totals: dict[str, float], now: float) -> None:
        """Set the running totals of a worker."""
        self._latest[worker], self._heard_at[worker] = totals, now

    def end(self, worker: str) -> None:
        """Keep the totals of a worker that has ended, and do not poll it again."""
        self._polls.pop(worker, None)
        self._heard_at.pop(worker, None)
        for name, value in self._latest.pop(worker, {}).items():
            self._ended[name] = self._ended.get(name, 0.0) + value

    def totals(self) -> dict[str, float]:
        """Sum of all workers' running totals."""
        totals = dict(self._ended)
        for name, value in itertools.chain.from_iterable(latest.items() for latest in self._latest.values()):
            totals[name] = totals.get(name, 0.0) + value
        return totals

    def poll(self, actors: dict[str, Any], now: float) -> None:
        """Read the replies that have arrived, and poll the workers whose last message is oldest."""
        for worker, answer in list(self._polls.items()):
            if answer.done():
                del self._polls[worker]
                if not answer.exception():  # the results of a dead worker's videos have the cause
                    self.hear(worker, answer.result(), now)
        waiting = self._heard_at.keys() - self._polls.keys()
        quiet = [worker for worker in waiting if now - self._heard_at[worker] > QUIET_S]
        for worker in heapq.nsmallest(POLLS_AT_ONCE, quiet, key=self._heard_at.__getitem__):
            self._polls[worker] = actors[worker].progress.remote().future()
