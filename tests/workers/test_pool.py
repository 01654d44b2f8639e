"""The pool on a real Ray: simulated labelers that fail in every way, with exact counts of attempts."""

from functools import partial

import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.workers.address import PoolError
from pipeline.workers.cluster import Resources
from pipeline.workers.pool import Crew, Finished, Pool
from pipeline.workers.scheduler import Limits, Quarantine
from tests.workers.simulated import HeapLabeler, SimulatedLabeler, SimulatedTask, processes, tries

SMALL = Resources(actors=2, cpus=0.1, gpus=0)


def run(folder, faults, *, videos=4, broken="", on_event=None, resources=SMALL, seconds=0.0, grace_s=5.0, **limits):
    """Label simulated videos; returns the labelled ones and the causes of the others' attempts."""
    given = Limits.of(**{"workers": resources.actors, **limits})
    crew = Crew(build=partial(SimulatedLabeler, folder, broken), resources=resources)
    pool = Pool([crew], limits=given, grace_s=grace_s)
    done, quarantined = [], {}
    tasks = pool.run(
        range(videos),
        [1.0] * videos,
        make_task=lambda index, _: SimulatedTask(index, seconds, tuple(faults.get(index, ()))),
    )
    for event in tasks:
        if isinstance(event, Finished):
            done.append(event.index)
        elif isinstance(event, Quarantine):
            quarantined[event.index] = [attempt.cause for attempt in event.attempts]
        if on_event:
            on_event(pool, event)
    return sorted(done), quarantined


@pytest.mark.usefixtures("local_ray")
def test_every_fault_ends_in_labels_or_quarantine(tmp_path):
    faults = {
        1: ["exception"],
        2: ["exception"] * 9,
        3: ["kill"],
        4: ["kill"] * 9,
        5: ["exit"],
        6: ["decode"] * 9,
        7: ["memory", "memory"],
        8: ["hang"] * 9,
        9: ["segfault"],
        12: ["allocation", "allocation"],
        13: ["cuda"],
        14: ["unsendable"] * 9,
        15: ["cudnn"],
        16: ["disk"],
    }
    done, quarantined = run(tmp_path, faults, videos=18, deadline_floor_s=6)
    assert done == [0, 1, 3, 5, 9, 10, 11, 13, 15, 16, 17]
    assert quarantined == {
        2: ["exception", "exception"],
        4: ["killed", "killed"],
        6: ["decode"],
        7: ["oom", "oom"],
        8: ["deadline", "deadline"],
        12: ["oom", "oom"],
        14: ["exception", "exception"],
    }
    counts = [tries(tmp_path, index) for index in range(18)]
    assert counts == [1, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1, 1, 2, 2, 2, 2, 2, 1]
    for index in (13, 15):
        first, second = processes(tmp_path, index)
        assert first != second, "after a CUDA error the process must be replaced"


@pytest.mark.usefixtures("local_ray")
def test_with_several_videos_in_flight_only_the_one_at_fault_is_charged(tmp_path):
    one = Resources(actors=1, cpus=0.1, gpus=0)
    done, quarantined = run(tmp_path, {1: ["kill"] * 9}, videos=6, resources=one, seconds=0.5, in_flight=3)
    assert done == [0, 2, 3, 4, 5]
    assert quarantined == {1: ["killed", "killed"]}
    assert tries(tmp_path, 1) == 3


@pytest.mark.usefixtures("local_ray")
def test_workers_that_cannot_start_end_the_run_with_the_reason(tmp_path):
    with pytest.raises(PoolError, match="no such model here"):
        run(tmp_path, {}, broken="no such model here")


@pytest.mark.usefixtures("local_ray")
def test_a_stop_assigns_no_more_videos_and_ends_after_its_grace(tmp_path):
    def stop(pool, event):
        if isinstance(event, Finished):
            pool.stop()

    one = Resources(actors=1, cpus=0.1, gpus=0)
    done, quarantined = run(tmp_path, {1: ["hang"]}, resources=one, on_event=stop, grace_s=1)
    assert (done, quarantined) == ([0], {})


@pytest.mark.usefixtures("local_ray")
def test_progress_is_summed_over_workers(tmp_path):
    seen = []
    run(tmp_path, {}, seconds=1.0, on_event=lambda pool, _: seen.append((pool.progress(), pool.actor_seconds)))
    assert max(totals.get("tries", 0) for totals, _ in seen) >= 2
    assert seen[-1][1] > 0


@pytest.mark.usefixtures("local_ray")
def test_all_threads_of_a_worker_share_one_heap(tmp_path):
    one = Resources(actors=1, cpus=0.1, gpus=0)
    crew = Crew(build=partial(HeapLabeler, tmp_path / "heaps"), resources=one)
    pool = Pool([crew], limits=Limits.of(workers=1), grace_s=5.0)
    ended = [event for event in pool.run([0], [1.0], make_task=lambda *_: 4) if event]
    assert [event.outcome for event in ended] == [1]


@pytest.mark.slow
def test_a_lost_node_charges_no_video(tmp_path):
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    node = cluster.add_node(num_cpus=1)
    ray.init(cluster.address)
    lost = []

    def lose(*_):
        if not lost and tries(tmp_path, 0):
            lost.append(cluster.add_node(num_cpus=1))
            cluster.remove_node(node, allow_graceful=False)

    try:
        one = Resources(actors=1, cpus=1, gpus=0)
        done, quarantined = run(tmp_path, {0: ["hang"]}, videos=2, resources=one, on_event=lose)
        assert (done, quarantined) == ([0, 1], {})
        assert tries(tmp_path, 0) == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
