"""Pending videos through a pool of Ray actors, with progress, failures and stop conditions on the way."""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.labels.failures import Failure
from pipeline.runs.config import CPU_LANES, GPU_LANES, RunConfig
from pipeline.runs.groups import WorkerGroup, smallest_groups, sorted_groups
from pipeline.runs.outcomes import Outcomes, Reporting
from pipeline.runs.plan import Plan
from pipeline.runs.prepare import Prepared
from pipeline.runs.progress import Progress
from pipeline.runs.stops import StopConditions
from pipeline.runs.tasks import Tasks
from pipeline.workers.actor import LabelerProtocol
from pipeline.workers.checkpoint import remove_finished
from pipeline.workers.cluster import Resources, connect
from pipeline.workers.loading import load_labeler
from pipeline.workers.metrics import DriverMetrics
from pipeline.workers.pool import Crew, Pool
from pipeline.workers.scheduler import Kind, Limits
from pipeline.workers.task import LabelerSettings

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
    tasks, outcomes = Tasks(prepared, pool.source), Outcomes(prepared, progress)
    reporting = Reporting(prepared, progress, pool, watch=watch, metrics=metrics)
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
