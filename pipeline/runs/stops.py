"""Conditions that stop a run before its videos are finished: a signal, a time, a budget, or another driver."""

import logging
import signal
import threading
from types import TracebackType
from typing import Any

from pipeline.runs.config import RunConfig
from pipeline.runs.progress import Progress, StoppedBy

log = logging.getLogger(__name__)


class StopConditions:
    """The reason to stop a run early; the first reason is kept. A context manager that handles signals."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._before: dict[signal.Signals, Any] = {}
        self.asked: StoppedBy | None = None

    def __enter__(self) -> "StopConditions":
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def listen(self) -> None:
        """Let SIGTERM and Ctrl-C stop the run; a second signal raises KeyboardInterrupt.

        Call it again after `ray.init`, which replaces the handler of SIGTERM.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread only
        for each in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(each, self._heard)
            self._before.setdefault(each, before)

    def ask(self, reason: StoppedBy) -> None:
        """Request a stop; an earlier reason is kept."""
        self.asked = self.asked or reason

    def due(self, progress: Progress) -> bool:
        """Whether to stop now: a stop was requested, or the time or budget is used up."""
        stop_at, budget = self._config.stop_at, self._config.budget_gpu_hours
        if stop_at is not None and progress.now >= stop_at:
            self.ask("stop-at")
        if budget is not None and (progress.gpu_hours or progress.actor_hours) >= budget:
            self.ask("budget")
        return self.asked is not None

    def _heard(self, number: int, _frame: Any) -> None:
        name = signal.Signals(number).name
        log.warning("%s: checkpointing in-flight videos; press Ctrl-C again to exit immediately", name)
        self.ask("signal")
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)
