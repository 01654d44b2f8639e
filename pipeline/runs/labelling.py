"""Pending videos through a pool of Ray actors, with progress, failures and stop conditions on the way."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.labels.failures import RETRY_SOLO, Attempt, Failure, failure_of, write_failure
from pipeline.manifest import Manifest, Video
from pipeline.runs.config import CPU_LANES, GPU_LANES, RunConfig
from pipeline.runs.groups import WorkerGroup, smallest_groups, sorted_groups
from pipeline.runs.plan import Plan
from pipeline.runs.prepare import Prepared
from pipeline.runs.progress import FLIGHTS_SHOWN, Progress, show
from pipeline.runs.stops import StopConditions
from pipeline.storage.paths import STATES
from pipeline.workers.actor import LabelerProtocol
from pipeline.workers.checkpoint import remove_finished, unfinished
from pipeline.workers.cluster import Resources, connect
from pipeline.workers.loading import load_labeler
from pipeline.workers.metrics import DriverMetrics
from pipeline.workers.pool import Crew, Event, Finished, Pool
from pipeline.workers.scheduler import Kind, Limits
from pipeline.workers.task import LabelerSettings, Task

PROGRESS_EVERY_S = 5.0
"""Seconds between two writes of progress.json."""
VIDEOS_AHEAD = 64
"""Rows of the manifest that become Python objects at once."""

LoadLabeler = Callable[[LabelerSettings], LabelerProtocol]
"""Makes a worker's labeler, inside the worker's process."""


def label_pending(
    prepared: Prepared,
    progress: Progress,
    *,
    watch: Callable[[Progress], None],
    stops: StopConditions,
    metrics: DriverMetrics,
    load_labeler: LoadLabeler = load_labeler,
) -> list[Failure]:
    """Label the pending videos on a pool of actors, most expensive first; returns those that failed.

    Args:
        prepared: the run.
        progress: kept up to date in place.
        watch: called with the progress about twice a second.
        stops: when one of them is due, in-flight videos are checkpointed and the rest stays pending.
        metrics: of the driver.
        load_labeler: makes a worker's labeler, inside the worker's process.
    """
    resources = join_cluster(prepared.config, stops)
    progress.phase, progress.now = "loading the model", time.time()
    watch(progress)
    pool = _make_pool(prepared, progress.run_id, resources, load_labeler)
    tasks, outcomes = _Tasks(prepared, pool.source), _Outcomes(prepared, progress)
    reporting = _Reporting(prepared, progress, pool, watch=watch, metrics=metrics)
    order, copies = _held_copies(prepared.plan)
    for event in pool.run(order, outcomes.costs, make_task=tasks.make, copies=copies, **_fit(prepared)):
        if event is not None:
            outcomes.add(event)
            continue
        reporting.tick()
        if stops.due(progress):
            progress.state = "stopping"
            pool.stop()
    remove_finished(prepared.store)
    reporting.end(frames=outcomes.frames, masks=outcomes.masks)
    return outcomes.failures


def join_cluster(config: RunConfig, stops: StopConditions) -> list[Resources]:
    """Connect to Ray by the configuration, and restore the run's signal handlers after it.

    Returns what an actor of each kind of workers reserves, smallest kind first.

    Raises:
        PoolError: The cluster cannot be reached or has too few resources.
    """
    resources = [
        connect(
            config.address,
            cpus=config.cpus_per_actor,
            gpus=group.gpus,
            actors=group.actors,
            device=config.device,
            label=group.label,
        )
        for group in _groups(config)
    ]
    stops.listen()
    return resources


def _groups(config: RunConfig) -> tuple[WorkerGroup, ...]:
    """The kinds of workers, smallest first; without groups one kind on any node."""
    one = WorkerGroup(name="worker", gpus=config.gpus_per_actor, actors=config.actors)
    return sorted_groups(config.worker_group or (one,))


def _held_copies(plan: Plan) -> tuple[npt.NDArray[np.int64], dict[int, list[int]]]:
    """The pending videos without those that wait for another pending one, and these by the other one."""
    pending, held = set(plan.order.tolist()), defaultdict[int, list[int]](list)
    for copy, other in plan.copies.items():
        if other in pending:
            held[other].append(copy)
    if not held:
        return plan.order, {}
    return plan.order[~np.isin(plan.order, [copy for copies in held.values() for copy in copies])], dict(held)


def _fit(prepared: Prepared) -> dict[str, Any]:
    """Which kinds of workers may take each video, and the priorities, where there are several kinds."""
    groups = _groups(prepared.config)
    if len(groups) == 1:
        return {}
    return {
        "smallest": smallest_groups(groups, prepared.plan.table["objects"].to_numpy()),
        "priorities": prepared.manifest.table["priority"].fill_null(0).to_numpy(),
    }


def _make_pool(prepared: Prepared, run_id: str, resources: list[Resources], load_labeler: LoadLabeler) -> Pool:
    config = prepared.config
    crews, kinds = [], []
    for group, reserved in zip(_groups(config), resources, strict=True):
        lanes = group.lanes or config.lanes or (GPU_LANES if reserved.gpus else CPU_LANES)
        build = partial(load_labeler, _settings(prepared, run_id, lanes, reserved))
        crews.append(Crew(build=build, resources=reserved))
        kinds.append(Kind(workers=reserved.actors, in_flight=lanes + 1, name=group.name))
    return Pool(
        crews,
        limits=Limits(kinds=tuple(kinds), deadline_floor_s=config.deadline_floor_s),
        grace_s=config.grace_s,
        log_ids={"run_id": run_id},
    )


def _settings(prepared: Prepared, run_id: str, lanes: int, resources: Resources) -> LabelerSettings:
    config = prepared.config
    return LabelerSettings(
        output=config.output,
        storage=prepared.storage,
        model=config.model,
        revision=config.revision,
        weights_digest=prepared.model.digest,
        device="cuda" if resources.gpus else "cpu" if config.device == "auto" else config.device,
        threads=max(1, int(config.cpus_per_actor)),
        lanes=lanes,
        parameters=config.parameters,
        association=config.association,
        on_damaged=config.on_damaged,
        checkpoint_every_s=config.checkpoint_every_s,
        check_drift=config.check_drift,
        keep_states=config.keep_states or 0,
        detection=config.detection,
        engine=config.engine,
        on_drift=config.on_drift,
        run_id=run_id,
    )


class _Tasks:
    """Makes the tasks of pending videos."""

    def __init__(self, prepared: Prepared, source: Callable[[int], int | None]) -> None:
        """
        Args:
            source: the video labelled in this run that a video is a duplicate of.
        """
        table = prepared.plan.table
        self._ids, self._states = table["video_id"], table["state"]
        self._copies, self._earlier, self._source = prepared.plan.copies, prepared.plan.earlier, source
        self._keys, self._versions, self._digests = (table[name] for name in ("label_key", "version", "prompts_digest"))
        self._detections, self._parameters = table["detections_digest"], table["parameters"]
        self._for_detections = prepared.config.parameters.for_detections()
        self._for_detections_json = self._for_detections.to_json()
        self._rates, self._earlier_keys = table["label_rate"], table["earlier_key"]
        self._has_states = prepared.store.is_folder(STATES)
        self._cuts = prepared.cuts
        self._upcoming = _Upcoming(prepared.manifest, prepared.plan.order)
        self._begun = unfinished(prepared.store)
        """Videos that may have a checkpoint."""

    def make(self, index: int, attempts: Sequence[Attempt]) -> Task:
        """The task of the video in this row of the plan; `attempts` failed before."""
        video, key = self._upcoming.take(index), self._keys[index].as_py()
        resume = (video.video_id, key) in self._begun
        self._begun.add((video.video_id, key))
        return Task(
            video=video,
            label_key=key,
            resume=resume,
            version=self._versions[index].as_py(),
            prompts_digest=self._digests[index].as_py(),
            detections_digest=self._detections[index].as_py(),
            parameters=self._for_detections if self._parameters[index].as_py() == self._for_detections_json else None,
            cuts=self._cuts.get(video.video_id, ()),
            label_rate=self._rates[index].as_py(),
            earlier_key=self._earlier_keys[index].as_py() if self._has_states else None,
            attempt=len(attempts) + 1,
            isolate=any(attempt.cause in RETRY_SOLO for attempt in attempts),
            copy_of=self._copied(index),
        )

    def _copied(self, index: int) -> tuple[str, str] | None:
        """Id and label key of the labelled video that this one is a duplicate of."""
        source = self._source(index)
        if source is None and (planned := self._copies.get(index)) is not None:
            source = planned if self._states[planned].as_py() == "labelled" else None
        return self._earlier.get(index) if source is None else (self._ids[source].as_py(), self._keys[source].as_py())


class _Upcoming:
    """Videos of a manifest as objects, made VIDEOS_AHEAD at a time in the order in which they are assigned."""

    def __init__(self, manifest: Manifest, order: npt.NDArray[np.int64]) -> None:
        self._manifest, self._order, self._made = manifest, order, 0
        self._ready: dict[int, Video] = {}

    def take(self, index: int) -> Video:
        """The video in this row; made again for a retried video."""
        if not self._ready:
            rows = self._order[self._made : self._made + VIDEOS_AHEAD]
            self._made += len(rows)
            self._ready = dict(zip(rows.tolist(), self._manifest.videos(rows), strict=True))
        return self._ready.pop(index, None) or self._manifest.video(index)


class _Outcomes:
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


class _Reporting:
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
