"""What becomes of the videos of a run, and how it is told: counts, failure records, progress.json, Prometheus."""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.labels.failures import Failure, failure_of, write_failure
from pipeline.runs.prepare import Prepared
from pipeline.runs.progress import FLIGHTS_SHOWN, Progress, show
from pipeline.workers.metrics import DriverMetrics
from pipeline.workers.pool import Event, Finished, Pool

PROGRESS_EVERY_S = 5.0
"""Seconds between two writes of progress.json."""


class Outcomes:
    """Records how videos end: in the progress, and in failure records."""

    def __init__(self, prepared: Prepared, progress: Progress) -> None:
        self._prepared, self._progress, self._table = prepared, progress, prepared.plan.table
        self.costs: npt.NDArray[np.float64] = self._table["cost"].to_numpy()
        self.failures: list[Failure] = []
        self.frames = self.masks = 0
        self._lengths: npt.NDArray[np.float64] = self._table["frames"].to_numpy()
        self._left, self._estimated, self._counted = progress.frames_expected, 0.0, 0

    def add(self, event: Event) -> None:
        """Count a labelled video, or put a failed one into quarantine."""
        self._expect(event)
        video_id = self._table["video_id"][event.index].as_py()
        if isinstance(event, Finished):
            self._progress.done += 1
            self._progress.truncated += event.outcome.truncated
            self._progress.damaged += event.outcome.damaged
            self.frames, self.masks = self.frames + event.outcome.frames, self.masks + event.outcome.masks
            for obsolete in self._prepared.failures.get(video_id, ()):
                self._prepared.store.delete(obsolete.path)
            return
        key, run_id = self._table["label_key"][event.index].as_py(), self._progress.run_id
        earlier = self._prepared.failures.get(video_id, ())
        failure = failure_of(event.attempts, video_id=video_id, label_key=key, run_id=run_id, earlier=earlier)
        write_failure(self._prepared.store, failure)
        self.failures.append(failure)
        failed = self._progress.failed
        failed[failure.failure_class] = failed.get(failure.failure_class, 0) + 1

    def _expect(self, event: Event) -> None:
        """Correct the number of expected frames: estimates of the videos left are scaled as those of finished ones."""
        estimate = float(self._lengths[event.index])
        self._left -= 0.0 if event.index in self._prepared.plan.duplicates else estimate
        if isinstance(event, Finished) and event.outcome.frames:
            self._estimated, self._counted = self._estimated + estimate, self._counted + event.outcome.frames
        scale = self._counted / self._estimated if self._counted else 1.0
        self._progress.frames_expected = self._counted + self._left * scale


class Reporting:
    """Reports the pool's progress to the display, progress.json and Prometheus."""

    def __init__(
        self,
        prepared: Prepared,
        progress: Progress,
        pool: Pool,
        *,
        watch: Callable[[Progress], None],
        metrics: DriverMetrics,
    ) -> None:
        self._prepared, self._progress, self._pool = prepared, progress, pool
        self._watch, self._metrics, self._written = watch, metrics, 0.0

    def tick(self) -> None:
        """Report; progress.json is written every PROGRESS_EVERY_S."""
        self._update()
        self._measure()
        if self._progress.now - self._written <= PROGRESS_EVERY_S:
            self._watch(self._progress)
            return
        self._written, ids = self._progress.now, self._prepared.plan.table["video_id"]
        self._progress.flights = [
            {"video_id": ids[index].as_py(), "worker": worker, "started": started}
            for started, worker, index in sorted(self._pool.in_flight())[:FLIGHTS_SHOWN]
        ]
        show(self._progress, self._prepared.store, self._watch)

    def end(self, *, frames: int, masks: int) -> None:
        """Report a last time, with at least the frames and masks of the labelled videos: totals lag behind workers."""
        self._update()
        self._progress.frames = max(self._progress.frames, frames)
        self._progress.masks = max(self._progress.masks, masks)
        self._measure(force=True)
        self._progress.in_flight, self._progress.flights = 0, []
        self._progress.labelled_until = self._progress.now

    def _update(self) -> None:
        progress, pool = self._progress, self._pool
        assert pool.scheduler
        totals = pool.progress()
        progress.in_flight = pool.scheduler.in_flight
        progress.frames, progress.masks = totals.get("frames", 0), totals.get("masks", 0)
        progress.workers, progress.deaths = pool.workers, dict(pool.deaths)
        progress.warnings = dict(pool.warnings)
        progress.actor_hours = pool.actor_seconds / 3600
        progress.gpu_hours = pool.gpu_seconds / 3600
        progress.now = time.time()
        if progress.in_flight:
            progress.phase = "labelling"
        if progress.frames and progress.first_frame is None:
            progress.first_frame = progress.now

    def _measure(self, *, force: bool = False) -> None:
        progress, pool = self._progress, self._pool
        quarantined = len(self._prepared.quarantined)
        assert pool.scheduler
        self._metrics.update(
            labelled=progress.done,
            failed=progress.failed,
            waiting=pool.scheduler.waiting,
            in_flight=pool.scheduler.in_flight,
            workers=pool.scheduler.workers.values(),
            starts=pool.scheduler.starts,
            deaths=pool.deaths,
            quarantined=quarantined + sum(progress.failed.values()),
            now=progress.now,
            force=force,
        )
