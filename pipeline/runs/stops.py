"""Why a run ends before its videos do: a signal, a time, a budget, or another driver."""

import logging
import signal
import threading
from types import TracebackType
from typing import Any

from pipeline.runs.config import RunConfig
from pipeline.runs.progress import Progress, StoppedBy

log = logging.getLogger(__name__)


class StopConditions:
    """Why a run should stop before its end: the first reason counts. A context manager that listens to signals."""

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
        """Let SIGTERM and Ctrl-C ask the run to stop; a second one raises KeyboardInterrupt.

        Call it again after `ray.init`, which replaces the handler of SIGTERM.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread only
        for each in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(each, self._heard)
            self._before.setdefault(each, before)

    def ask(self, reason: StoppedBy) -> None:
        """Ask the run to stop; an earlier reason stays."""
        self.asked = self.asked or reason

    def due(self, progress: Progress) -> bool:
        """Whether to stop now: the run was asked to, or its time or budget is over."""
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
