"""How long batches take, on the host or on a device that runs behind it."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch


class BatchClock(Protocol):
    """Measures batches. Used by one thread."""

    @property
    def batch_s(self) -> float:
        """Seconds that the latest measured batch took."""
        ...

    def measure(self) -> AbstractContextManager[None]:
        """Measure the batch that runs inside."""
        ...


class HostClock:
    """Wall time: right where the host waits for its own results."""

    def __init__(self) -> None:
        self.batch_s = 0.0

    @contextmanager
    def measure(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.batch_s = time.monotonic() - started


class CudaClock:
    """Device time between two events. The host launches a batch in a fraction of the time that the device needs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()
        self._batch_s = 0.0

    @property
    def batch_s(self) -> float:
        while self._running and self._running[0][1].query():
            begin, end = self._running.popleft()
            self._batch_s = begin.elapsed_time(end) / 1000
        return self._batch_s

    @contextmanager
    def measure(self) -> Iterator[None]:
        stream = torch.cuda.current_stream(self._device)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record(stream)
        yield
        end.record(stream)
        self._running.append((begin, end))


def batch_clock(device: torch.device) -> BatchClock:
    """The clock for a model on this device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
