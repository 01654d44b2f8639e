"""Drivers whose shards share videos exclude each other; others do not."""

import itertools
import json
import time

import pytest

from pipeline.runs.shards import lease_folder, overlap, wait_for_overlapping
from pipeline.storage import Store
from pipeline.storage.lease import Lease, LeaseHeldError

ALIVE = {"beat_s": 0.2, "stale_s": 60.0}
DEAD = {"beat_s": 0.2, "stale_s": 1.0}
SHARDS = [(i, n) for n in range(1, 7) for i in range(1, n + 1)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def lease(store, shard):
    return Lease(store, lease_folder(shard), who="run one", **ALIVE)


def test_shards_overlap_when_a_video_lies_in_both():
    for one, other in itertools.product(SHARDS, SHARDS):
        both = [h for h in range(60) if h % one[1] == one[0] - 1 and h % other[1] == other[0] - 1]
        assert overlap(one, other) == bool(both), (one, other)


@pytest.mark.parametrize(
    ("holder", "starting"), [(None, (1, 2)), ((1, 2), None), ((1, 2), (1, 3)), ((1, 2), (3, 4)), ((3, 4), (1, 2))]
)
def test_a_driver_is_refused_while_one_of_an_overlapping_shard_is_alive(store, holder, starting):
    with lease(store, holder), lease(store, starting), pytest.raises(LeaseHeldError, match="labelled by run one"):
        wait_for_overlapping(store, starting, **ALIVE)
    with lease(store, starting):
        wait_for_overlapping(store, starting, **ALIVE)


def test_drivers_of_other_shards_and_dead_drivers_do_not_block(store):
    dead = {"who": "run two", "host": "elsewhere", "pids": None, "pid": 1, "born": "1", "beat": time.time()}
    store.put("leases/all/000000001.json", json.dumps(dead | {"released": False}).encode())
    with lease(store, (2, 4)), lease(store, (1, 2)):
        wait_for_overlapping(store, (1, 2), **DEAD)


def test_of_two_concurrent_drivers_at_most_one_continues(store):
    with lease(store, None), lease(store, (1, 2)):
        for shard in (None, (1, 2)):
            with pytest.raises(LeaseHeldError):
                wait_for_overlapping(store, shard, **ALIVE)
