"""Sixty-four simulated actors whose labelling sleeps by a heavy-tailed time: utilisation, makespan, driver's cost.

    python -m tests.benchmarks.driver [ACTORS [VIDEOS]]

The clock starts when all actors are up. Utilisation is the share of actor time spent labelling until the tail begins:
the moment when nothing waits any more. The bound is max(total / actors, longest).
"""

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.cluster import Resources, connect
from pipeline.policy import Limits
from pipeline.pool import Finished, Pool
from tests.simulated import SimulatedLabeler, SimulatedTask

SHORTEST_S, TAIL = 2.0, 2.5


class WaitingLabeler(SimulatedLabeler):
    """Starts to label when a file says that all actors are up."""

    def label(self, task):
        while not (self.folder.parent / "go").exists():
            time.sleep(0.02)
        started = time.time()
        super().label(task)
        return started, time.time()

    def progress(self):
        return {}


def main(actors: int, videos: int) -> None:
    rng = np.random.default_rng(0)
    seconds = np.sort(SHORTEST_S * (1 - rng.random(videos)) ** (-1 / TAIL))[::-1]
    connect(None, cpus=0.01, gpus=0, actors=actors, device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tries"
        folder.mkdir()
        resources = Resources(actors=actors, cpus=0.01, gpus=0)
        pool = Pool(partial(WaitingLabeler, folder), limits=Limits(workers=actors), resources=resources, grace_s=5)
        spans, started, cpu, tail = [], 0.0, 0.0, 0.0
        for event in pool.run(range(videos), seconds, make_task=lambda i, _: SimulatedTask(i, float(seconds[i]))):
            assert pool.scheduler
            if not started and pool.scheduler.in_flight >= actors:
                (Path(name) / "go").touch()
                started, cpu = time.time(), time.process_time()
            if isinstance(event, Finished):
                spans.append(event.outcome)
            if started and not tail and pool.scheduler.waiting == 0:
                tail = time.time()
        ended, cpu = max(end for _, end in spans), time.process_time() - cpu
    busy = sum(min(end, tail) - begin for begin, end in spans if begin < tail)
    bound = max(seconds.sum() / actors, seconds[0])
    print(
        f"{actors} actors, {videos} videos: utilisation until the tail {busy / (actors * (tail - started)):.1%}, "
        f"makespan {(ended - started) / bound:.3f} of the bound {bound:.0f} s, "
        f"driver {1000 * cpu / videos:.2f} ms of CPU a video"
    )


if __name__ == "__main__":
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    main(*(int(each) for each in (*sys.argv[1:], *("64", "1500")[len(sys.argv) - 1 :])))
