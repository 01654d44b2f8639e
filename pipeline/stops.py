"""Why a run ends before its videos do: a signal, a time, a budget, or another driver."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.config import RunConfig
from pipeline.progress import Progress, StoppedBy

log = logging.getLogger(__name__)


class Stops:
    """Why a run should stop before its end: the first reason counts."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.asked: StoppedBy | None = None

    def ask(self, reason: StoppedBy) -> None:
        self.asked = self.asked or reason

    def due(self, progress: Progress) -> bool:
        """Whether to stop now: asked to, or the time or the budget is over."""
        stop_at, budget = self._config.stop_at, self._config.budget_gpu_hours
        if stop_at is not None and progress.now >= stop_at:
            self.ask("stop-at")
        if budget is not None and (progress.gpu_hours or progress.actor_hours) >= budget:
            self.ask("budget")
        return self.asked is not None


@contextmanager
def stop_requests(config: RunConfig) -> Iterator[Stops]:
    """SIGTERM and Ctrl-C ask the run to stop; a second one ends it at once."""
    stops = Stops(config)
    if threading.current_thread() is not threading.main_thread():
        yield stops  # signals reach the main thread only
        return

    def stop(number: int, _frame: Any) -> None:
        log.warning("%s: saving the videos in hand; once more to end at once", signal.Signals(number).name)
        stops.ask("signal")
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stops
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
