"""Which drivers of one output may run at the same time: those whose shards share no video."""

import math
import re

from pipeline.storage import Store
from pipeline.storage.lease import BEAT_S, STALE_S, wait_until_free
from pipeline.storage.paths import LEASES

Shard = tuple[int, int]
"""(i, n): the i-th of n parts of a manifest, i from 1."""
_WHOLE: Shard = (1, 1)
_NAME = re.compile(r"(\d+)-of-(\d+)")


def lease_folder(shard: Shard | None) -> str:
    """Folder of the lease for this shard, or for the whole manifest."""
    return f"{LEASES}/{shard[0]}-of-{shard[1]}" if shard else f"{LEASES}/all"


def overlap(one: Shard, other: Shard) -> bool:
    """Whether two shards may share a video: shard (i, n) has the videos with hash % n == i - 1."""
    return (one[0] - other[0]) % math.gcd(one[1], other[1]) == 0


def wait_for_overlapping(
    store: Store, shard: Shard | None, *, beat_s: float = BEAT_S, stale_s: float = STALE_S
) -> None:
    """Return once no driver of another shard that shares videos with this one is running.

    Call it while holding the lease of `shard`: of two drivers that start at once, each then finds the other's lease,
    and at least one is refused.

    Raises:
        LeaseHeldError: Such a driver is running.
    """
    for name in store.list_dirs(LEASES):
        folder = f"{LEASES}/{name}"
        if folder != lease_folder(shard) and overlap(shard or _WHOLE, _shard_of(name)):
            wait_until_free(store, folder, beat_s=beat_s, stale_s=stale_s)


def _shard_of(name: str) -> Shard:
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else _WHOLE
