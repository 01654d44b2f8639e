"""One attempt at a night: reads manifests, labels, publishes, optimizes tables and writes the page."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pipeline.errors import CorpusError, StorageError
from pipeline.runs.config import RunConfig
from pipeline.runs.detection import detection_config, detections_of, labelling_config, videos_of
from pipeline.runs.nightly import history
from pipeline.runs.nightly.clock import check_night, night_of, stop_time
from pipeline.runs.nightly.report import (
    absent_videos,
    bad_rows_record,
    begin_record,
    detection_record,
    end_record,
    union_record,
    with_run,
)
from pipeline.runs.nightly.retry import due_rule
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.nightly.union import Union, find_manifests, log_union, read_union
from pipeline.runs.prepare import Prepared, prepare
from pipeline.runs.progress import Progress, RunReport
from pipeline.runs.summary import reason_text
from pipeline.storage import Storage, Store
from pipeline.tables import fragments, optimize
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.output import claim_output
from pipeline.views.night import Picture, render

log = logging.getLogger(__name__)

OPTIMIZED_BYTES = 32 * 2**30
"""Bytes of table files that one night rewrites at most, so that it ends soon after labelling."""

Label = Callable[..., RunReport]


def run_night(
    settings: NightSettings,
    *,
    night: str | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    label: Label | None = None,
) -> dict[str, Any]:
    """Label the videos of the night's manifests that are not labelled, and publish them; returns the report.

    Another attempt at the same night continues it.

    Args:
        settings: nightly.toml.
        night: the evening the night begins on; the present night when None.
        watch: called with the progress of labelling.
        now: the clock.
        label: labels a corpus; `pipeline.runs.run.label_corpus` when None.

    Raises:
        UsageError: A setting or manifest cannot be used, or another run is labelling this output.
        CorpusError: Any other error that ended the night; the report has it, too.
    """
    started = now()
    night = check_night(night) if night else night_of(started, settings.zone)
    stop_at = stop_time(night, settings.stop_at, settings.zone) if settings.stop_at else None
    storage = _storage(settings)
    store = Store(settings.run.output, storage=storage)
    claim_output(store)
    before = history.read_attempts(store, night)
    record = begin_record(settings, night=night, started=started, stop_at=stop_at)
    number = history.claim(store, night, record)
    log.info("night %s, attempt %d, output %s", night, number, store)

    noted: list[str] = []

    def follow(progress: Progress) -> None:
        if not noted:
            noted.append(progress.run_id)
            history.note_run(store, night, number, progress.run_id)
        watch(progress)

    error: BaseException | None = None
    pictures: list[Picture] = []
    try:
        union = _read(settings, storage)
        record |= union_record(union, absent_videos(labelled_videos(store, ["video_id"]), union))
        bad_rows_before = history.bad_rows_before(store, night)
        record |= bad_rows_record(union.bad_rows, bad_rows_before)
        config, over_budget = _limits(settings, before, stop_at=stop_at, now=started)
        due = due_rule(settings.retry_after_s(), now=started)
        label = label or _label_corpus()
        detected = None
        if config.detect:
            detected = label(detection_config(config), watch=watch, manifest=videos_of(union.manifest), retry=due)
            record["detection"] = detection_record(detected)
            config = _after_detection(config, detected, now=now())
        report = label(config, watch=follow, manifest=union.manifest, retry=due)
        if detected:
            report = replace(
                report,
                gpu_hours=report.gpu_hours + detected.gpu_hours,
                actor_hours=report.actor_hours + detected.actor_hours,
            )
        earlier_runs = [attempt["run_id"] for attempt in before if attempt.get("run_id")]
        record = with_run(record, report, settings, over_budget=over_budget, earlier_runs=earlier_runs)
        record |= bad_rows_record([*union.bad_rows, *report.bad_rows], bad_rows_before)
        pictures = _pictures(store, storage, [report.run_id, *earlier_runs]) if report.published else []
        record["doubtful"] = [_without_image(picture) for picture in pictures]
        record["upkeep"] = _keep_tidy(store, settings) if report.published else []
        _log_report(record)
    except BaseException as caught:
        error = caught
        raise
    finally:
        record = end_record(record, attempt=number, ended=now(), error=error)
        history.finish(store, night, number, record)
        earlier = history.read_nights(store, before=night, count=settings.compare_nights)
        whole = history.total(night, [*before, record])
        page = partial(render, record, night=whole, attempts=before, earlier=earlier, pictures=pictures)
        history.add_page(store, night, number, lambda root: page(root=root))
    return record


def _pictures(store: Store, storage: Storage, run_ids: list[str]) -> list[Picture]:
    """The most doubtful objects of the night; none where labels cannot be read, because the report matters more."""
    from pipeline.tables.query import open_labels  # loads DuckDB, which planning and labelling do not need
    from pipeline.views.night.pictures import doubtful_pictures

    try:
        with open_labels(store) as labels:
            return doubtful_pictures(labels, run_ids=run_ids, storage=storage)
    except CorpusError as error:
        log.warning("the page has no pictures: %s", error)
        return []


def _without_image(picture: Picture) -> dict[str, Any]:
    return {name: value for name, value in asdict(picture).items() if name != "jpeg"}


def _keep_tidy(store: Store, settings: NightSettings) -> list[dict[str, Any]]:
    """Optimize the tables if they have many small files; after an error, a later night does it."""
    try:
        if fragments(store) < settings.optimize_after:
            return []
        return [asdict(result) for result in optimize(store, max_bytes=OPTIMIZED_BYTES)]
    except StorageError as error:
        log.warning("the tables are not optimized: %s", error)
        return []


def plan_night(settings: NightSettings) -> tuple[Union, Prepared]:
    """The manifests and the plan of the present night, with [detect] that of detection; starts and writes nothing."""
    union = _read(settings, _storage(settings))
    config, manifest = settings.run, union.manifest
    if config.detect:  # labelling depends on what will be found
        config, manifest = detection_config(config), videos_of(manifest)
    return union, prepare(config, manifest=manifest, retry=due_rule(settings.retry_after_s()))


def _read(settings: NightSettings, storage: Storage) -> Union:
    uris = find_manifests(settings.manifests, storage=storage)
    run = settings.run
    detections = detections_of(run) if run.detect else run.detections
    union = read_union(uris, storage=storage, on_bad_row=run.on_bad_row, detections=detections)
    log_union(union)
    return union


def _after_detection(config: RunConfig, detected: RunReport, *, now: datetime) -> RunConfig:
    """The labelling that follows detection, with the rest of the budget; it labels nothing if detection was stopped."""
    config = labelling_config(config)
    budget = config.budget_gpu_hours
    if budget is not None:
        budget -= detected.gpu_hours or detected.actor_hours
    if detected.stopped_by or (budget is not None and budget <= 0):
        log.warning("nothing is labelled: detection was stopped, or used the night's budget")
        return replace(config, stop_at=now.timestamp())
    return replace(config, budget_gpu_hours=budget)


def _limits(
    settings: NightSettings, before: list[dict[str, Any]], *, stop_at: datetime | None, now: datetime
) -> tuple[RunConfig, bool]:
    """The configuration with the rest of the night's time and budget, and whether the budget is used up."""
    stop = stop_at.timestamp() if stop_at else None
    budget = settings.budget_gpu_hours
    if budget is not None:
        budget -= history.total("", before).gpu_hours
        if budget <= 0:
            log.warning("the night's budget of %g GPU hours is used up: nothing is labelled", settings.budget_gpu_hours)
            return replace(settings.run, stop_at=now.timestamp()), True
    if stop is not None and stop <= now.timestamp():
        log.warning("it is past %s of this night: nothing is labelled", settings.stop_at)
    return replace(settings.run, stop_at=stop, budget_gpu_hours=budget), False


def _storage(settings: NightSettings) -> Storage:
    return Storage.from_toml(settings.run.storage)


def _label_corpus() -> Label:
    from pipeline.runs.run import label_corpus  # loads Ray, which planning and tests do not need

    return label_corpus


def _log_report(record: dict[str, Any]) -> None:
    for reason, videos in record["reasons"].items():
        log.info("pending: %s", reason_text(reason, videos))
    log.info(
        "%d labelled, %d new failures, %d known, %d left",
        record["labelled"], record["new_failures"], record["known_failures"], record["left"],
    )  # fmt: skip
