"""A small job that reports its metrics as driver and workers do: labels are naps, some videos fail, a worker dies.

Run as a process by test_live.py, against the cluster that RAY_ADDRESS names.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayActorError

from pipeline.workers.metrics import DriverMetrics, Totals, WorkerMetrics
from pipeline.workers.scheduler import InFlight, Worker

RUN, OUTPUT = "run-1", "s3://labels"
WORKERS = 2
DEADLY = 20


@ray.remote(num_cpus=1, max_concurrency=2)
class Naps:
    """A labeler that sleeps, and tells what it does as the real one."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._metrics = WorkerMetrics(RUN, output=OUTPUT, lanes=1)

    def progress(self) -> None:
        self._metrics.update(self._totals.values())

    def label(self, video: int) -> bool:
        if video == DEADLY:
            os._exit(1)
        if video % 10 == 3:
            return False
        for _ in self._totals.timed(self._steps(), "step_s", "blocked_s"):
            with self._totals.clock("encode_s"):
                time.sleep(0.02)
            self._totals.add("frames", 1)
            self._totals.add("masks", 3)
        with self._totals.clock("commit_s"):
            time.sleep(0.05)
        return True

    def _steps(self) -> Iterator[None]:
        for _ in range(10):
            with self._totals.clock("starved_s"):
                time.sleep(0.02)
            self._totals.add("decode_s", 0.02)
            time.sleep(0.03)
            yield


def main(seconds: float) -> None:
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
    patience = time.time() + 60
    while ray.cluster_resources().get("CPU", 0) < WORKERS:
        if time.time() > patience:
            sys.exit(f"too small a cluster: {ray.nodes()}")
        time.sleep(0.5)
    metrics = DriverMetrics(RUN, output=OUTPUT)
    metrics.published(time.time() - 3600)
    actors = {f"worker-{number}": Naps.remote() for number in range(WORKERS)}
    labelled, failed, deaths, videos, videos_in_all = 0, 0, 0, 0, 10_000
    pending: dict[Any, str] = {}
    begun = time.time()

    def update(*, force: bool = False) -> None:
        metrics.update(
            labelled=labelled,
            failed={"decode": failed},
            waiting=videos_in_all - videos,
            in_flight=len(pending),
            workers=[Worker(name, ready=True, in_flight={1: InFlight(1, 1.0, begun)}) for name in actors],
            starts=WORKERS + deaths,
            deaths={"killed": deaths},
            quarantined=failed,
            now=time.time(),
            force=force,
        )

    while pending or time.time() - begun < seconds:
        for name, actor in actors.items():
            if name not in pending.values() and time.time() - begun < seconds:
                pending[actor.label.remote(videos)] = name
                videos += 1
        for reference in ray.wait(list(pending), timeout=0.5)[0]:
            name = pending.pop(reference)
            try:
                done = ray.get(reference)
            except RayActorError:
                deaths += 1
                actors[name] = Naps.remote()
            else:
                labelled, failed = labelled + done, failed + (not done)
        for actor in actors.values():
            actor.progress.remote()
        update()
    update(force=True)
    metrics.published(time.time())
    print(f"labelled {labelled} failed {failed} deaths {deaths}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
