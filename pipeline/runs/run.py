"""The driver: from a manifest to published labels."""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StorageError
from pipeline.labels.failures import RETRY_SOLO, Attempt, Failure, failure_of, write_failure
from pipeline.manifest import Manifest, Video
from pipeline.runs.config import RunConfig
from pipeline.runs.names import next_name
from pipeline.runs.prepare import Prepared, prepare
from pipeline.runs.progress import FLIGHTS_SHOWN, Progress, Report
from pipeline.runs.record import record_run
from pipeline.runs.shards import lease_folder, wait_for_overlapping
from pipeline.runs.stops import Stops
from pipeline.storage import Store
from pipeline.storage.lease import Lease
from pipeline.storage.paths import RUNS, progress_path
from pipeline.tables import publish
from pipeline.tables.output import claim_output
from pipeline.workers.checkpoint import remove_finished, unfinished
from pipeline.workers.cluster import Resources, connect
from pipeline.workers.loading import load_labeler
from pipeline.workers.metrics import DriverMetrics
from pipeline.workers.pool import Finished, Pool
from pipeline.workers.scheduler import Limits
from pipeline.workers.task import LabelerSettings, Task

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0
VIDEOS_AHEAD = 64
UNKNOWN_KEY = "unknown"
"""Files the failure of a video whose version, and so its label key, cannot be known."""


def label_corpus(
    config: RunConfig,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
    manifest: Manifest | None = None,
    retry: Callable[[Failure], bool] = lambda _: False,
) -> Report:
    """Label what a manifest asks for and is not labelled yet, and publish it.

    Args:
        config: the run.
        watch: called with the progress about twice a second.
        manifest: a validated manifest, instead of the one at `config.manifest`.
        retry: which videos in quarantine are due for another try.

    Raises:
        UsageError: The manifest, the model or a setting cannot be used, or another run is at work on this output.
        StorageError: The output cannot be written.
        PoolError: Workers cannot be started.
    """
    holder = f"run of {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    prepared = prepare(config, manifest=manifest, retry=retry)
    plan, store = prepared.plan, prepared.store
    store.check_writable()
    claim_output(store)
    reasons = ", ".join(f"{count} {reason}" for reason, count in plan.reasons().items())
    log.info("%d of %d videos pending%s", len(plan.order), plan.table.num_rows, f": {reasons}" if reasons else "")
    for note in prepared.notes:
        log.info(note)
    failures, stopped_by = list(prepared.quarantined), None
    with (
        Stops(config) as stops,
        Lease(store, lease_folder(config.shard), who=holder, on_lost=lambda: stops.ask("lease")),
    ):
        wait_for_overlapping(store, config.shard)
        run_id, now = next_name(store.list_dirs(RUNS), datetime.now(UTC)), time.time()
        progress = Progress(run_id=run_id, videos=len(plan.order), cost=plan.total("cost"), started=now, now=now)
        record_run(prepared, run_id)
        _show(progress, store, watch)
        _remove_obsolete_failures(prepared)
        failures += _unreadable(prepared, run_id)
        metrics = DriverMetrics(run_id, output=str(store))
        if len(plan.order) and not stops.due(progress):
            failures += _label(prepared, progress, watch, stops, metrics)
        elif config.address:
            _join(config, stops)  # so that Prometheus hears of a quiet night's publication, too
        progress.state, progress.now = "ended", time.time()
        _show(progress, store, watch)
        published = publish(store) if config.publish else None
        if published:
            metrics.published(time.time())
        stopped_by = stops.asked
    left = progress.videos - progress.done - sum(progress.failed.values())
    return Report(
        run_id=run_id,
        output=str(store),
        planned={state: plan.count(state) for state in ("labelled", "pending", "quarantined", "unreadable")},
        reasons=plan.reasons(),
        labelled=progress.done,
        failures=failures,
        bad_rows=[str(row) for row in prepared.manifest.bad_rows],
        left=left,
        frames=int(progress.frames),
        masks=int(progress.masks),
        seconds=time.time() - progress.started,
        actor_hours=progress.actor_hours,
        gpu_hours=progress.gpu_hours,
        deaths=progress.deaths,
        stopped_by=stopped_by if left else None,
        published=published,
        returns=prepared.returns,
        notes=prepared.notes,
    )


def _label(
    prepared: Prepared,
    progress: Progress,
    watch: Callable[[Progress], None],
    stops: Stops,
    metrics: DriverMetrics,
) -> list[Failure]:
    """Run the pending videos on a pool of actors; returns those that failed."""
    config, plan, store = prepared.config, prepared.plan, prepared.store
    resources = _join(config, stops)
    lanes = config.lanes or (8 if resources.gpus else 1)
    pool = Pool(
        partial(load_labeler, _settings(prepared, progress.run_id, lanes, resources)),
        limits=Limits(workers=resources.actors, in_flight=lanes + 1, deadline_floor_s=config.deadline_floor_s),
        resources=resources,
        grace_s=config.grace_s,
        log_ids={"run_id": progress.run_id},
    )
    ids = plan.table["video_id"]
    keys, versions, digests = (plan.table[name] for name in ("label_key", "version", "prompts_digest"))
    costs = plan.table["cost"].to_numpy()
    begun = unfinished(store)
    """Videos that may have a checkpoint."""

    upcoming = _Upcoming(prepared.manifest, plan.order)

    def make_task(index: int, attempts: Sequence[Attempt]) -> Task:
        video, key = upcoming.take(index), keys[index].as_py()
        resume = (video.video_id, key) in begun
        begun.add((video.video_id, key))
        return Task(
            video=video,
            label_key=key,
            resume=resume,
            version=versions[index].as_py(),
            prompts_digest=digests[index].as_py(),
            attempt=len(attempts) + 1,
            isolate=any(attempt.cause in RETRY_SOLO for attempt in attempts),
        )

    failures: list[Failure] = []
    frames = masks = 0
    written = 0.0
    for event in pool.run(plan.order, costs, make_task=make_task):
        if event is None:
            _update(progress, pool)
            _measure(metrics, progress, pool, len(prepared.quarantined))
            if stops.due(progress):
                progress.state = "stopping"
                pool.stop()
            if progress.now - written > PROGRESS_EVERY_S:
                written = progress.now
                progress.flights = [
                    {"video_id": ids[index].as_py(), "worker": worker, "started": started}
                    for started, worker, index in sorted(pool.in_flight())[:FLIGHTS_SHOWN]
                ]
                _show(progress, store, watch)
            else:
                watch(progress)
            continue
        video_id = ids[event.index].as_py()
        progress.cost_done += float(costs[event.index])
        if isinstance(event, Finished):
            progress.done += 1
            frames, masks = frames + event.outcome.frames, masks + event.outcome.masks
            for obsolete in prepared.failures.get(video_id, ()):
                store.delete(obsolete.path)
        else:
            key = keys[event.index].as_py()
            failure = failure_of(event.attempts, video_id=video_id, label_key=key, run_id=progress.run_id)
            write_failure(store, failure)
            failures.append(failure)
            progress.failed[failure.failure_class] = progress.failed.get(failure.failure_class, 0) + 1
    remove_finished(store)
    _update(progress, pool)
    # Running totals are as old as the last look at the workers.
    progress.frames, progress.masks = max(progress.frames, frames), max(progress.masks, masks)
    _measure(metrics, progress, pool, len(prepared.quarantined), force=True)
    progress.in_hand, progress.flights = 0, []
    return failures


class _Upcoming:
    """Videos of a manifest as objects, made some ahead in the order in which they are handed out first."""

    def __init__(self, manifest: Manifest, order: npt.NDArray[np.int64]) -> None:
        self._manifest, self._order, self._made = manifest, order, 0
        self._ready: dict[int, Video] = {}

    def take(self, index: int) -> Video:
        if not self._ready:
            rows = self._order[self._made : self._made + VIDEOS_AHEAD]
            self._made += len(rows)
            self._ready = dict(zip(rows.tolist(), self._manifest.videos(rows), strict=True))
        return self._ready.pop(index, None) or self._manifest.video(index)


def _show(progress: Progress, store: Store, watch: Callable[[Progress], None]) -> None:
    watch(progress)
    try:
        store.put(progress_path(progress.run_id), progress.to_json())
    except StorageError as error:  # what matters will fail for itself
        log.warning("cannot show the progress: %s", error)


def _join(config: RunConfig, stops: Stops) -> Resources:
    resources = connect(
        config.address,
        cpus=config.cpus_per_actor,
        gpus=config.gpus_per_actor,
        actors=config.actors,
        device=config.device,
    )
    stops.listen()
    return resources


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
        on_damaged=config.on_damaged,
        checkpoint_every_s=config.checkpoint_every_s,
        check_drift=config.check_drift,
        run_id=run_id,
    )


def _update(progress: Progress, pool: Pool) -> None:
    assert pool.scheduler
    totals = pool.progress()
    progress.in_hand = pool.scheduler.in_flight
    progress.frames, progress.masks = totals.get("frames", 0), totals.get("masks", 0)
    progress.workers, progress.deaths = pool.workers, dict(pool.deaths)
    progress.actor_hours = pool.actor_seconds / 3600
    progress.gpu_hours = progress.actor_hours * pool.resources.gpus
    progress.now = time.time()


def _measure(metrics: DriverMetrics, progress: Progress, pool: Pool, quarantined: int, *, force: bool = False) -> None:
    """Show Prometheus what `progress` shows people."""
    assert pool.scheduler
    metrics.update(
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


def _unreadable(prepared: Prepared, run_id: str) -> list[Failure]:
    """Failure records of the videos whose source was not there when the run was planned."""
    failures = []
    for index, state in enumerate(prepared.plan.table["state"].to_pylist()):
        if state == "unreadable":
            video = prepared.manifest.video(index)
            message = f"row {video.row}: cannot find {video.video_uri}; is it there, and may this account read it?"
            attempt = Attempt("storage", message, "", "driver", time.time())
            failure = failure_of([attempt], video_id=video.video_id, label_key=UNKNOWN_KEY, run_id=run_id)
            write_failure(prepared.store, failure)
            failures.append(failure)
    return failures


def _remove_obsolete_failures(prepared: Prepared) -> None:
    """Remove the records of sources that are there again, and of labels that somebody else has made since."""
    table = prepared.plan.table
    concerned = table.filter(pc.is_in(table["video_id"], value_set=pa.array(prepared.failures, pa.string())))
    columns = (concerned[name].to_pylist() for name in ("video_id", "label_key", "state"))
    for video_id, key, state in zip(*columns, strict=True):
        for failure in prepared.failures[video_id]:
            found_again = failure.label_key == UNKNOWN_KEY and state != "unreadable"
            if found_again or (failure.label_key == key and state == "labelled"):
                prepared.store.delete(failure.path)
