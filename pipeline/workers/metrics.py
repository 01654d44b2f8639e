"""Prometheus metrics of a run, `ray_sam2_*`, exposed by Ray's metrics endpoint on every node.

The names and labels are a contract with infra/monitoring. Both classes take running totals and compute the increments,
so callers keep plain numbers. `update` costs microseconds and has an effect at most once a second; call it at least
that often, because Ray drops a gauge that is not set for half a minute. Before `ray.init` the calls do nothing.
"""

import math
import resource
import string
import sys
import threading
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from ray.util.metrics import Counter, Gauge

from pipeline.workers.scheduler import Worker

Item = TypeVar("Item")

EVERY_S = 1.0
"""Seconds between two updates; those in between are dropped unless forced."""

STAGES = ("decode", "model", "encode", "commit")
STATES = ("starting", "idle", "busy", "draining")
NOT_YET = 1e-9
"""First value of a counter: Ray does not allow 0, and PromQL sees no increase in a series that first appears at 5."""


class DriverMetrics:
    """Metrics of the driver: videos, queue, workers, quarantine, publishing.

    Args:
        run_id: the run, a label of every series.
        output: URI of the output without credentials; a label of every series.
    """

    def __init__(self, run_id: str, *, output: str) -> None:
        labels = {"run_id": run_id, "output": _ascii(output)}
        self._videos = _Total("sam2_videos_total", "videos labelled or failed", labels, "outcome", "failure_class")
        self._starts = _Total("sam2_actor_starts_total", "workers started", labels)
        self._deaths = _Total("sam2_actor_deaths_total", "workers that died or could not start", labels, "cause")
        self._waiting = _gauge("sam2_videos_waiting", "videos not yet assigned to a worker", labels)
        self._in_flight = _gauge("sam2_videos_in_flight", "videos assigned to workers and not finished", labels)
        self._workers = _gauge("sam2_actors", "workers by state", labels, "state")
        self._quarantined = _gauge("sam2_videos_quarantined", "videos of this manifest in quarantine", labels)
        self._last = _gauge("sam2_last_video_timestamp_seconds", "time of the last video labelled or failed", labels)
        self._published = _gauge(
            "sam2_published_timestamp_seconds", "time of the last publication of the tables", labels
        )
        self._published_at: float | None = None
        self._ended, self._ended_at = -1, 0.0
        self._throttle = _Throttle()
        self._videos.set(0, "labelled", "")
        self._videos.set(0, "failed", "exception")

    def update(
        self,
        *,
        labelled: int,
        failed: Mapping[str, int],
        waiting: int,
        in_flight: int,
        workers: Collection[Worker],
        starts: int,
        deaths: Mapping[str, int],
        quarantined: int,
        now: float,
        force: bool = False,
    ) -> None:
        """Set the run's running totals.

        Args:
            labelled: videos labelled by this run.
            failed: videos that this run put into quarantine, by failure class.
            waiting: videos not in flight that are to be labelled.
            in_flight: videos assigned to workers.
            workers: the scheduler's workers.
            starts: workers started so far.
            deaths: workers that died so far, by cause.
            quarantined: videos of this manifest in quarantine, those of earlier runs included.
            now: seconds since the epoch.
            force: update even if the last update was less than a second ago.
        """
        if self._throttle.too_soon(force):
            return
        ended = labelled + sum(failed.values())
        if ended != self._ended:
            self._ended, self._ended_at = ended, now
        self._videos.set(labelled, "labelled", "")
        for failure_class, count in failed.items():
            self._videos.set(count, "failed", failure_class)
        self._starts.set(starts)
        for cause, count in deaths.items():
            self._deaths.set(count, cause)
        self._waiting.set(waiting)
        self._in_flight.set(in_flight)
        states = [_state(worker) for worker in workers]
        for state in STATES:
            self._workers.set(states.count(state), tags={"state": state})
        self._quarantined.set(quarantined)
        self._last.set(self._ended_at)
        self._published.set(self._published_at)

    def published(self, at: float) -> None:
        """Set the time of the last publication, in seconds since the epoch."""
        self._published_at = at
        self._published.set(at)


class WorkerMetrics:
    """Metrics of one worker: its results, and seconds by stage. Several threads may call `update` at once.

    Args:
        run_id: the run, a label of every series.
        output: URI of the output without credentials; a label of every series.
        lanes: videos that the worker labels concurrently.
    """

    def __init__(self, run_id: str, *, output: str, lanes: int) -> None:
        labels = {"run_id": run_id, "output": _ascii(output)}
        self._frames = _Total("sam2_frames_total", "frames tracked", labels)
        self._masks = _Total("sam2_masks_total", "masks made, one per object and frame", labels)
        self._stages = _Total(
            "sam2_stage_seconds_total", "seconds of work by stage, summed over lanes", labels, "stage"
        )
        self._starved = _Total("sam2_starved_seconds_total", "seconds that lanes waited for frames", labels)
        self._blocked = _Total(
            "sam2_blocked_seconds_total", "seconds that lanes waited for masks to be encoded", labels
        )
        self._fallback = _gauge(
            "sam2_worker_engine_fallback", "1 if the worker had to fall back to the reference engine", labels
        )
        self._lanes = _gauge("sam2_lanes", "videos that the worker labels concurrently", labels)
        self._rss = _gauge("sam2_worker_rss_bytes", "resident memory of the worker", labels)
        self._gpu = _gauge("sam2_worker_gpu_memory_peak_bytes", "peak GPU memory of the worker", labels)
        self._lane_count = lanes
        self._throttle = _Throttle()

    def update(self, totals: Mapping[str, float], *, force: bool = False) -> None:
        """Set running totals.

        Args:
            totals: frames, masks, decode_s, step_s, encode_s, commit_s, starved_s, blocked_s, engine_fallback; absent
                ones count as 0.
            force: update even if the last update was less than a second ago.
        """
        if self._throttle.too_soon(force):
            return
        starved = totals.get("starved_s", 0.0)
        model = totals.get("step_s", 0.0) - starved  # a lane waits for its frames within a step
        self._frames.set(totals.get("frames", 0))
        self._masks.set(totals.get("masks", 0))
        for stage in STAGES:
            self._stages.set(model if stage == "model" else totals.get(f"{stage}_s", 0.0), stage)
        self._starved.set(starved)
        self._blocked.set(totals.get("blocked_s", 0.0))
        self._fallback.set(totals.get("engine_fallback", 0.0))
        self._lanes.set(self._lane_count)
        self._rss.set(rss_bytes())
        self._gpu.set(gpu_peak_bytes())


class Totals:
    """Running totals of one worker, by name. Thread-safe: lanes and their threads add to them concurrently."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, name: str, value: float) -> None:
        """Add to the total of this name."""
        with self._lock:
            self._values[name] = self._values.get(name, 0.0) + value

    def values(self) -> dict[str, float]:
        """The totals so far."""
        with self._lock:
            return dict(self._values)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the seconds spent in the block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def timed(self, items: Iterable[Item], took: str, waited: str | None = None) -> Generator[Item, None, None]:
        """The items. Adds to `took` the seconds until each item, to `waited` the seconds until the next is requested.

        Around a lane's propagation, `timed(steps, "step_s", "blocked_s")`, the two add up to the lane's time per video.
        """
        iterator = iter(items)
        try:
            while True:
                with self.clock(took):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                asked = time.perf_counter()
                yield item
                if waited:
                    self.add(waited, time.perf_counter() - asked)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()


class _Total:
    """A counter that is set to its running total; it never decreases."""

    def __init__(self, name: str, description: str, labels: Mapping[str, str], *more: str) -> None:
        self._counter = Counter(name, description=description, tag_keys=(*labels, *more))
        self._counter.set_default_tags(dict(labels))
        self._more = more
        self._reported: dict[tuple[str, ...], float] = {}
        self._lock = threading.Lock()

    def set(self, total: float, *values: str) -> None:
        with self._lock:
            previous = self._reported.get(values)
            increment = NOT_YET if previous is None else total - previous
            if increment > 0:
                self._counter.inc(increment, tags=dict(zip(self._more, values, strict=True)))
                self._reported[values] = (previous or 0.0) + (0.0 if previous is None else increment)
        if previous is None and total > 0:
            self.set(total, *values)


class _Throttle:
    """Admits one caller every EVERY_S seconds."""

    def __init__(self) -> None:
        self._last = -math.inf
        self._lock = threading.Lock()

    def too_soon(self, force: bool) -> bool:
        with self._lock:
            now = time.monotonic()
            if not force and now - self._last < EVERY_S:
                return True
            self._last = now
            return False


def _ascii(text: str) -> str:
    """The text with non-ASCII characters percent-encoded: Ray encodes the tags of metrics as ASCII."""
    return quote(text, safe=string.printable, errors="surrogateescape")


def _gauge(name: str, description: str, labels: Mapping[str, str], *more: str) -> Any:
    gauge = Gauge(name, description=description, tag_keys=(*labels, *more))
    gauge.set_default_tags(dict(labels))
    return gauge


def _state(worker: Worker) -> str:
    if worker.draining:
        return "draining"
    return "starting" if not worker.ready else "busy" if worker.in_flight else "idle"


def rss_bytes() -> float:
    """Resident memory of this process."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the peak, in KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def gpu_peak_bytes() -> float:
    """Peak GPU memory of this process; 0 without CUDA, and if torch is not loaded; does not import it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    return float(torch.cuda.max_memory_reserved())
