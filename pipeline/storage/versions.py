"""Versions of many sources at once: far fewer requests than sources, where they lie together."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.errors import StorageError
from pipeline.storage.faults import RETRY_BUDGET_S, attempt
from pipeline.storage.filesystems import Access, Storage, filesystem, local_path
from pipeline.storage.listing import entry_of
from pipeline.storage.s3_listing import Page, S3Lister
from pipeline.storage.sources import Version

THREADS = 16
KEYS_PER_TASK = 4000
FEW = 16
"""So few sources of a bucket are asked for one by one, so that a small run needs no right to list."""


def source_versions(
    uris: Sequence[str], *, storage: Storage | None = None, retry_budget_s: float = RETRY_BUDGET_S
) -> list[Version | None]:
    """The version of each source, in order; None where it is not there or cannot be reached."""
    storage = storage or Storage()
    found: list[Version | None] = [None] * len(uris)
    remote: dict[tuple[str, Access], list[int]] = defaultdict(list)
    for at, uri in enumerate(uris):
        if (path := local_path(uri)) is not None:
            found[at] = _stat(path)
        else:
            scheme, _, rest = uri.partition("://")
            remote[f"{scheme}://{rest.partition('/')[0]}", storage.access(uri)].append(at)
    for (bucket, access), where in remote.items():
        for at, version in _bucket_versions(bucket, access, uris, where, retry_budget_s):
            found[at] = version
    return found


def _bucket_versions(
    bucket_uri: str, access: Access, uris: Sequence[str], where: list[int], budget_s: float
) -> Iterator[tuple[int, Version | None]]:
    fs, bucket = filesystem(bucket_uri, access)
    versions: dict[str, Version] = {}
    if hasattr(fs, "call_s3") and len(where) > FEW:
        names = sorted({uris[at][len(bucket_uri) + 1 :] for at in where})
        chunks = [names[at : at + KEYS_PER_TASK] for at in range(0, len(names), KEYS_PER_TASK)]

        lister = S3Lister(fs)

        def page(prefix: str, after: str, size: int) -> Page:
            return attempt(
                lambda: lister.page(bucket, prefix, start_after=after, page_keys=size),
                what="list",
                uri=f"{bucket_uri}/{prefix}",
                budget_s=budget_s,
            )

        with ThreadPoolExecutor(THREADS) as threads:
            for part in threads.map(lambda chunk: _listed(chunk, page), chunks):
                versions |= {f"{bucket_uri}/{name}": version for name, version in part.items()}
    # One by one what a listing did not show: it may be forbidden, or not in the order of the keys (SeaweedFS).
    missing = [at for at in where if uris[at] not in versions]
    with ThreadPoolExecutor(THREADS) as threads:
        asked = threads.map(lambda at: _asked(fs, uris[at], budget_s), missing)
        for at, version in zip(missing, asked, strict=True):
            if version:
                versions[uris[at]] = version
    return ((at, versions.get(uris[at])) for at in where)


def _listed(names: list[str], page: Callable[[str, str, int], Page]) -> dict[str, Version]:
    """Versions of sorted names of one bucket, from listing just the stretches in which they lie.

    Every page settles at least one name, and a thousand where the wanted ones lie side by side.
    """
    found: dict[str, Version] = {}
    prefix = os.path.commonprefix([names[0], names[-1]]).rpartition("/")[0]  # noqa: RUF071 - of characters, and then back to a slash
    prefix += "/" if prefix else ""
    at, size, after = 0, min(1000, 2 * len(names)), ""
    while at < len(names):
        name = names[at]
        after = max(after, name[:-1] + chr(ord(name[-1]) - 1) + "~")  # a little before the name: the start is exclusive
        try:
            answer = page(prefix, after, size)
        except StorageError:
            return found
        listed = {entry.path: entry for entry in answer.entries}
        last = max(listed, default="")
        settled = at if answer.next_token else len(names)
        while settled < len(names) and names[settled] <= last:
            settled += 1
        hits = [listed[name] for name in names[at:settled] if name in listed]
        found |= {hit.path: Version(size=hit.size, etag=hit.etag, mtime=hit.mtime) for hit in hits}
        share = len(hits) / max(1, len(listed))
        size = max(10, size // 4) if share < 0.02 else min(1000, size * 4) if share > 0.2 else size
        at, after = settled, max(after, last)
    return found


def _asked(fs: Any, uri: str, budget_s: float) -> Version | None:
    try:
        raw = attempt(lambda: fs.info(fs._strip_protocol(uri)), what="look at", uri=uri, budget_s=budget_s)
    except StorageError:
        return None
    if raw["type"] != "file":
        return None
    entry = entry_of(uri, raw)
    return Version(size=entry.size, etag=entry.etag, mtime=entry.mtime or None)


def _stat(path: Path) -> Version | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Version(size=found.st_size, mtime=found.st_mtime)
