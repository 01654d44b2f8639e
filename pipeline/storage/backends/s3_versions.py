"""Versions of many objects of one bucket, with far fewer requests than objects if their keys are adjacent."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from pipeline.errors import StorageError
from pipeline.storage.backends.backend import THREADS
from pipeline.storage.faults import with_retries
from pipeline.storage.listing import Entry, Page, Version, version_of

KEYS_PER_TASK = 4000
FEW = 16
"""Up to this many objects are requested one by one, so that a small run needs no permission to list."""
PAGE_KEYS = 1000
"""Largest number of keys that one request lists."""


class ListPage(Protocol):
    """Lists at most `page_keys` objects of a bucket below a prefix, after a key."""

    def __call__(self, bucket: str, prefix: str, *, start_after: str, page_keys: int) -> Page: ...


def versions_in_bucket(
    names: Sequence[str],
    *,
    bucket_uri: str,
    page: ListPage,
    info: Callable[[str], Entry | None],
    budget_s: float,
) -> dict[str, Version]:
    """The version of each object that exists and can be reached.

    Args:
        names: keys.
        bucket_uri: such as s3://bucket.
        page: lists one page.
        info: reads the metadata of one object.
        budget_s: how long each request is retried.
    """
    bucket = bucket_uri.partition("://")[2]

    def list_after(prefix: str, start_after: str, size: int) -> Page:
        return with_retries(
            lambda: page(bucket, prefix, start_after=start_after, page_keys=size),
            what="list",
            uri=f"{bucket_uri}/{prefix}",
            budget_s=budget_s,
        )

    def look_at(name: str) -> Version | None:
        try:
            found = with_retries(lambda: info(name), what="look at", uri=f"{bucket_uri}/{name}", budget_s=budget_s)
        except StorageError:
            return None
        return version_of(found) if found else None

    ordered = sorted(names)
    chunks = [ordered[at : at + KEYS_PER_TASK] for at in range(0, len(ordered), KEYS_PER_TASK)]
    versions: dict[str, Version] = {}
    with ThreadPoolExecutor(THREADS) as threads:
        if len(names) > FEW:
            for part in threads.map(lambda chunk: find_by_listing(chunk, list_after), chunks):
                versions |= part
        # The rest one by one: listing may be forbidden, or not sorted by key (SeaweedFS).
        missing = [name for name in names if name not in versions]
        asked = zip(missing, threads.map(look_at, missing), strict=True)
        return versions | {name: version for name, version in asked if version}


def find_by_listing(names: Sequence[str], page: Callable[[str, str, int], Page]) -> dict[str, Version]:
    """Versions of sorted keys, from listings of only their ranges; those found before the first error.

    Every page settles at least one key, and a thousand if the wanted keys are adjacent.

    Args:
        names: sorted keys.
        page: given a prefix, the key to list after and how many keys, one page of a listing.
    """
    found: dict[str, Version] = {}
    prefix = _common_folder(names)
    at, size, after = 0, min(PAGE_KEYS, 2 * len(names)), ""
    while at < len(names):
        after = max(after, _just_before(names[at]))
        try:
            answer = page(prefix, after, size)
        except StorageError:
            break
        listed = {entry.path: entry for entry in answer.entries}
        last = max(listed, default="")
        decided = _decided(names, at, last) if answer.next_token else len(names)
        hits = [listed[name] for name in names[at:decided] if name in listed]
        found |= {hit.path: version_of(hit) for hit in hits}
        size = _next_size(size, share=len(hits) / max(1, len(listed)))
        at, after = decided, max(after, last)
    return found


def _common_folder(names: Sequence[str]) -> str:
    """The longest prefix of sorted keys that ends in a slash; "" where there is none."""
    characters = os.path.commonprefix([names[0], names[-1]])  # noqa: RUF071 - a key is no path
    folder, slash, _ = characters.rpartition("/")
    return folder + slash


def _just_before(name: str) -> str:
    """A key just before another, because a listing leaves out the key that it starts after."""
    return name[:-1] + chr(ord(name[-1]) - 1) + "~"


def _decided(names: Sequence[str], at: int, last: str) -> int:
    """Number of keys known to exist or not, after a page that ended with `last`; `at` were known before."""
    while at < len(names) and names[at] <= last:
        at += 1
    return at


def _next_size(size: int, *, share: float) -> int:
    """Size of the next page in keys: fewer if few of the last page were wanted, more if many were."""
    if share < 0.02:
        return max(10, size // 4)
    return min(PAGE_KEYS, size * 4) if share > 0.2 else size
