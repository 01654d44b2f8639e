"""The driver: from a manifest to published labels."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from pipeline.detection.location import is_table
from pipeline.labels.failures import Failure
from pipeline.manifest import Manifest
from pipeline.runs.config import RunConfig
from pipeline.runs.detection import detection_config, labelling_config, publish_wanted, read_videos
from pipeline.runs.detections import store_adapted
from pipeline.runs.failures import remove_obsolete, write_unreadable
from pipeline.runs.labelling import LoadLabeler, join_cluster, label_pending
from pipeline.runs.plan import STATES
from pipeline.runs.prepare import Prepared, prepare
from pipeline.runs.progress import Progress, RunReport, StoppedBy, show
from pipeline.runs.record import record_run
from pipeline.runs.shards import lease_folder, wait_for_overlapping
from pipeline.runs.stops import StopConditions
from pipeline.runs.summary import reason_text
from pipeline.storage import Storage, Store
from pipeline.storage.lease import Lease
from pipeline.tables import Published, publish_without_staged
from pipeline.tables.output import claim_output
from pipeline.tables.pins import next_run_name
from pipeline.workers.address import check_cluster
from pipeline.workers.loading import load_labeler
from pipeline.workers.metrics import DriverMetrics

log = logging.getLogger(__name__)

LabelPending = Callable[..., list[Failure]]
"""Labels the pending videos of a run, as `label_pending` does."""

MakeLease = Callable[..., AbstractContextManager[int]]
"""Makes the lease of a run, as `Lease` does."""


def label_corpus(
    config: RunConfig,
    *,
    watch: Callable[[Progress], None] = lambda _: None,
    manifest: Manifest | None = None,
    retry: Callable[[Failure], bool] = lambda _: False,
    load_labeler: LoadLabeler = load_labeler,
    label_pending: LabelPending = label_pending,
    lease: MakeLease = Lease,
    publish: Callable[[Store], Published] | None = None,
) -> RunReport:
    """Label the pending videos of a manifest, and publish the labels.

    Args:
        config: the run.
        watch: called with the progress about twice a second.
        manifest: a validated manifest, instead of the one at `config.manifest`.
        retry: whether a failure in quarantine is retried.
        load_labeler: makes a worker's labeler, inside the worker's process.
        label_pending: labels the pending videos; by default on a pool of Ray actors.
        lease: makes the lease that the run holds.
        publish: publishes the labels at the end; by default into tables, or detections into theirs.

    Raises:
        UsageError: The manifest, the model or a setting cannot be used, or another run is labelling this output.
        StorageError: The output cannot be written.
        PoolError: Ray cannot be reached, which is checked before anything is written, or workers cannot start.
        KeyboardInterrupt: A second signal asked the run to exit immediately.
    """
    if config.detect:
        storage = Storage.from_toml(config.storage)
        videos = manifest or read_videos(config.manifest, storage=storage, on_bad_row=config.on_bad_row)
        detected = label_corpus(detection_config(config), watch=watch, manifest=videos, retry=retry)
        if detected.left:
            return detected
        return label_corpus(
            labelling_config(config),
            watch=watch,
            manifest=manifest if is_table(config.manifest) else videos,
            retry=retry,
            publish=publish,
        )
    check_cluster(config.address)
    prepared = prepare(config, manifest=manifest, retry=retry)
    plan, store = prepared.plan, prepared.store
    store.check_writable()
    claim_output(store, "detections" if config.detection else "labels")
    _log_plan(prepared)
    holder = f"run of {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with (
        StopConditions(config) as stops,
        lease(store, lease_folder(config.shard), who=holder, on_lost=lambda: stops.ask("lease")),
    ):
        wait_for_overlapping(store, config.shard)
        progress = _begin(prepared)
        show(progress, store, watch)
        remove_obsolete(prepared)
        failures = [*prepared.quarantined, *write_unreadable(prepared, progress.run_id)]
        metrics = DriverMetrics(progress.run_id, output=str(store))
        if len(plan.order) and not stops.due(progress):
            prepared = _with_detections(prepared, progress.run_id)
            failures += label_pending(
                prepared, progress, watch=watch, stops=stops, metrics=metrics, load_labeler=load_labeler
            )
        elif config.address:
            join_cluster(
                config, stops
            )  # so that a run without pending videos also reports its publication to Prometheus
        if config.publish:
            progress.phase, progress.now = "publishing the labels", time.time()
            watch(progress)
        published = (publish or _publication(prepared))(store) if config.publish else None
        progress.state, progress.now = "ended", time.time()
        show(progress, store, watch)
        if published:
            metrics.published(time.time())
        stopped_by = stops.asked
    return _report(prepared, progress, failures, published, stopped_by)


def _publication(prepared: Prepared) -> Callable[[Store], Published]:
    return partial(publish_wanted, plan=prepared.plan) if prepared.config.detection else publish_without_staged


def _log_plan(prepared: Prepared) -> None:
    plan = prepared.plan
    reasons = "; ".join(reason_text(reason, videos) for reason, videos in plan.reasons().items())
    log.info("%d of %d videos pending%s", len(plan.order), plan.table.num_rows, f": {reasons}" if reasons else "")
    if prepared.lengths and len(plan.order):
        log.info("about %.0f frames; frames of %s", plan.total("frames"), prepared.lengths)
    for note in prepared.notes:
        log.info(note)
    if prepared.estimate and len(plan.order):
        log.info("estimate: %.2f hours with %d actors", prepared.estimate.seconds / 3600, prepared.estimate.actors)


def _begin(prepared: Prepared) -> Progress:
    """Name the run and record its wanted labels, which publication uses."""
    run_id, now = next_run_name(prepared.store), time.time()
    record_run(prepared, run_id)
    plan = prepared.plan
    return Progress(
        run_id=run_id,
        videos=len(plan.order),
        phase="starting Ray" if len(plan.order) or prepared.config.address else "publishing the labels",
        unreadable=plan.count("unreadable"),
        quarantined=plan.count("quarantined"),
        frames_expected=plan.total("frames"),
        started=now,
        now=now,
    )


def _with_detections(prepared: Prepared, run_id: str) -> Prepared:
    """The run with detections where workers can read them."""
    pending = prepared.plan.table["video_id"].take(pa.array(prepared.plan.order))
    manifest = store_adapted(prepared.manifest, prepared.adapted, prepared.store, run_id, pending=pending)
    return replace(prepared, manifest=manifest)


def _report(
    prepared: Prepared,
    progress: Progress,
    failures: list[Failure],
    published: Published | None,
    stopped_by: StoppedBy | None,
) -> RunReport:
    left = progress.videos - progress.done - sum(progress.failed.values())
    return RunReport(
        run_id=progress.run_id,
        output=str(prepared.store),
        planned={state: prepared.plan.count(state) for state in STATES},
        reasons=prepared.plan.reasons(),
        labelled=progress.done,
        failures=failures,
        bad_rows=[str(row) for row in prepared.manifest.bad_rows],
        left=left,
        frames=int(progress.frames),
        masks=int(progress.masks),
        seconds=time.time() - progress.started,
        labelling_s=progress.labelling_s,
        actor_hours=progress.actor_hours,
        gpu_hours=progress.gpu_hours,
        deaths=progress.deaths,
        stopped_by=stopped_by if left else None,
        published=published,
        truncated=progress.truncated,
        damaged=progress.damaged,
        returns=prepared.returns,
        notes=[*prepared.notes, *progress.warning_lines],
    )
