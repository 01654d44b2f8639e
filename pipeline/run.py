"""The driver: from a manifest to published labels."""

import json
import logging
import platform
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version as package_version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from pipeline import manifest as manifests
from pipeline import model as models
from pipeline.config import RunConfig
from pipeline.labeler import Labeler, LabelerSettings, Task
from pipeline.plan import Plan, make_plan
from pipeline.policy import Attempt, Limits
from pipeline.pool import Finished, Pool, connect
from pipeline.publish import Published, publish
from pipeline.quarantine import RETRIED_UNASKED, Failure, failure_of, read_failures, write_failure
from pipeline.query import labelled_videos
from pipeline.store import Storage, Store, parse_path, source_versions

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run before anything is started: what is wanted, what is there, what is pending."""

    config: RunConfig
    store: Store
    storage: Storage
    manifest: manifests.Manifest
    model: models.ResolvedModel
    plan: Plan
    quarantined: list[Failure]
    """Of this manifest and these keys; not tried again by this run."""


@dataclass(kw_only=True)
class Progress:
    """What a run is doing; `progress.json` holds it."""

    run_id: str
    videos: int
    started: float
    done: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """By class."""
    in_flight: int = 0
    workers: int = 0
    frames: float = 0
    masks: float = 0
    cost: float = 0
    cost_done: float = 0
    now: float = 0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end, judged by the cost done so far; None before the first video."""
        spent = self.now - self.started
        return spent * (self.cost / self.cost_done - 1) if self.cost_done else None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a run did."""

    run_id: str
    output: str
    planned: dict[str, int]
    """Videos by state when the run began."""
    reasons: dict[str, int]
    labelled: int
    failures: list[Failure]
    """Of this run, and those that stay in quarantine from earlier ones."""
    bad_rows: list[str]
    left: int
    """Pending videos that this run did not come to."""
    frames: int
    masks: int
    seconds: float
    published: Published | None

    @property
    def exit_code(self) -> int:
        """0 all labelled; 3 finished with failures or bad rows; 4 stopped before the end."""
        if self.left:
            return 4
        return 3 if self.failures or self.bad_rows else 0


def label_corpus(config: RunConfig, *, watch: Callable[[Progress], None] = lambda _: None) -> Report:
    """Label what a manifest asks for and is not labelled yet, and publish it.

    Raises:
        UsageError: The manifest, the model or a setting cannot be used; nothing was started.
        StorageError: The output cannot be written.
        PoolError: Workers cannot be started.
    """
    prepared = plan_run(config)
    plan, store = prepared.plan, prepared.store
    store.check_writable()
    run_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{secrets.token_hex(3)}"
    _record_run(prepared, run_id)
    progress = Progress(
        run_id=run_id, videos=len(plan.order), started=time.time(), cost=plan.total("cost"), now=time.time()
    )
    failures = [*prepared.quarantined, *_unreadable(prepared, run_id)]
    if len(plan.order):
        failures += _label(prepared, run_id, progress, watch)
    published = publish(store) if config.publish else None
    return Report(
        run_id=run_id,
        output=str(store),
        planned={state: plan.count(state) for state in ("labelled", "pending", "quarantined", "unreadable")},
        reasons=plan.reasons(),
        labelled=progress.done,
        failures=failures,
        bad_rows=[str(row) for row in prepared.manifest.bad_rows],
        left=progress.videos - progress.done - sum(progress.failed.values()),
        frames=int(progress.frames),
        masks=int(progress.masks),
        seconds=time.time() - progress.started,
        published=published,
    )


def plan_run(config: RunConfig) -> Prepared:
    """Read the manifest, find the model, compare what is wanted with what is labelled. Starts and writes nothing."""
    storage = Storage.from_toml(config.storage) if config.storage else Storage()
    store = Store(config.output, storage=storage)
    manifest = manifests.read_manifest(config.manifest, prompts=config.prompts, on_bad_row=config.on_bad_row)
    model = models.resolve(config.model, revision=config.revision)
    found = source_versions(manifest.table["video_uri"].to_pylist(), storage=storage)
    given = manifest.table["video_version"].to_pylist()
    failures = {(failure.video_id, failure.label_key): failure for failure in read_failures(store)}
    plan = make_plan(
        manifest.table,
        versions=[own if own is not None else v and v.token() for own, v in zip(given, found, strict=True)],
        sizes=[v and v.size for v in found],
        prompt_digests=manifests.prompt_digests(manifest),
        weights=model.digest,
        parameters=config.parameters,
        labelled=labelled_videos(store),
        committed={found for shard in store.list_sharded("parts") for e in shard if (found := parse_path(e.path))},
        quarantined={key for key, failure in failures.items() if failure.failure_class not in RETRIED_UNASKED},
    )
    kept = plan.table.filter(pa.compute.equal(plan.table["state"], "quarantined"))
    keys = zip(kept["video_id"].to_pylist(), kept["label_key"].to_pylist(), strict=True)
    return Prepared(
        config=config,
        store=store,
        storage=storage,
        manifest=manifest,
        model=model,
        plan=plan,
        quarantined=[failures[key] for key in keys],
    )


def _label(prepared: Prepared, run_id: str, progress: Progress, watch: Callable[[Progress], None]) -> list[Failure]:
    """Run the pending videos on a pool of actors; returns those that failed."""
    config, plan, store = prepared.config, prepared.plan, prepared.store
    wants_gpu = config.gpus_per_actor if config.gpus_per_actor is not None else float(config.device == "cuda")
    connect(config.address, cpus=config.cpus_per_actor, gpus=wants_gpu)
    cluster_gpus = ray.cluster_resources().get("GPU", 0)
    gpus = float(bool(cluster_gpus)) if config.gpus_per_actor is None and config.device == "auto" else wants_gpu
    actors = config.actors or (max(1, int(cluster_gpus / gpus)) if gpus else 2)
    lanes = config.lanes or (8 if gpus else 1)
    settings = LabelerSettings(
        output=config.output,
        storage=prepared.storage,
        model=config.model,
        revision=config.revision,
        weights_digest=prepared.model.digest,
        device="cuda" if gpus else "cpu" if config.device == "auto" else config.device,
        threads=max(1, int(config.cpus_per_actor)),
        lanes=lanes,
        parameters=config.parameters,
        on_damaged=config.on_damaged,
        run_id=run_id,
    )
    pool = Pool(
        partial(Labeler, settings),
        limits=Limits(workers=actors, in_flight=lanes + 1),
        cpus=config.cpus_per_actor,
        gpus=gpus,
    )
    columns = {name: plan.table[name] for name in ("label_key", "version", "prompts_digest")}

    def make_task(index: int) -> Task:
        values = {name: column[index].as_py() for name, column in columns.items()}
        tries = len(pool.scheduler.attempts(index)) if pool.scheduler else 0
        return Task(video=prepared.manifest.video(index), attempt=tries + 1, **values)

    failures: list[Failure] = []
    costs = plan.table["cost"].to_numpy()
    written = 0.0
    with _stop_on_signal(pool):
        for event in pool.run(plan.order, costs, make_task=make_task):
            if isinstance(event, Finished):
                progress.done += 1
                progress.cost_done += float(costs[event.index])
            elif event is not None:
                failure = failure_of(
                    event.attempts,
                    video_id=plan.table["video_id"][event.index].as_py(),
                    label_key=plan.table["label_key"][event.index].as_py(),
                    run_id=run_id,
                )
                write_failure(store, failure)
                failures.append(failure)
                progress.failed[failure.failure_class] = progress.failed.get(failure.failure_class, 0) + 1
                progress.cost_done += float(costs[event.index])
            assert pool.scheduler
            totals = pool.progress()
            progress.frames, progress.masks = totals.get("frames", 0), totals.get("masks", 0)
            progress.in_flight, progress.workers = pool.scheduler.in_flight, len(pool.scheduler.workers)
            progress.now = time.time()
            watch(progress)
            if progress.now - written > PROGRESS_EVERY_S:
                written = progress.now
                store.put(f"runs/{run_id}/progress.json", json.dumps(asdict(progress)).encode())
    store.put(f"runs/{run_id}/progress.json", json.dumps(asdict(progress)).encode())
    return failures


def _unreadable(prepared: Prepared, run_id: str) -> list[Failure]:
    """Failure records of the videos whose source was not there when the run was planned."""
    table = prepared.plan.table
    failures = []
    for index, state in enumerate(table["state"].to_pylist()):
        if state == "unreadable":
            video = prepared.manifest.video(index)
            message = f"row {video.row}: cannot find {video.video_uri}; is it there, and may this account read it?"
            attempt = Attempt("storage", message, "", "driver", time.time())
            failure = failure_of([attempt], video_id=video.video_id, label_key="unknown", run_id=run_id)
            write_failure(prepared.store, failure)
            failures.append(failure)
    return failures


def _record_run(prepared: Prepared, run_id: str) -> None:
    """Write what this run wants and with what it runs."""
    plan, store = prepared.plan, prepared.store
    wanted = plan.table.select(["video_id", "label_key"])
    sink = pa.BufferOutputStream()
    pq.write_table(wanted.filter(wanted["label_key"].is_valid()), sink, compression="zstd")
    store.put(f"runs/{run_id}/wanted.parquet", sink.getvalue().to_pybytes())
    record: dict[str, Any] = {
        "run_id": run_id,
        "configuration": prepared.config.to_dict(),
        "weights_digest": prepared.model.digest,
        "videos": plan.table.num_rows,
        "pending": len(plan.order),
        "reasons": plan.reasons(),
        "bad_rows": len(prepared.manifest.bad_rows),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "versions": {
            name: package_version(name) for name in ("sam2-corpus", "torch", "transformers", "ray", "av", "pyarrow")
        }
        | {"python": platform.python_version()},
    }
    store.put(f"runs/{run_id}/run.json", json.dumps(record, indent=1).encode())


@contextmanager
def _stop_on_signal(pool: Pool) -> Iterator[None]:
    """On SIGTERM and Ctrl-C hand out nothing more and let what is in flight finish; a second one ends the run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: Any) -> None:
        log.warning("%s: finishing the videos in flight; once more to end at once", signal.Signals(number).name)
        pool.stop()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.default_int_handler)

    before = {each: signal.signal(each, stop) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
