"""What lies in storage: entries as every file system tells them, S3 listings page by page and never from a cache."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One object below a store's root."""

    path: str
    size: int
    mtime: float
    """Seconds since 1970; 0 where the storage does not tell."""
    etag: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    entries: list[Entry]
    next_token: str | None
    """Where the next page begins; None after the last."""


def s3_pages(call: Callable[..., dict[str, Any]], bucket: str, prefix: str) -> Iterator[list[Entry]]:
    """All objects below `prefix`, a page at a time; `call` is s3fs's call_s3 with retries around it. Paths are keys."""
    page = s3_page(call, bucket, prefix)
    yield page.entries
    while page.next_token:
        page = s3_page(call, bucket, prefix, token=page.next_token)
        yield page.entries


def s3_page(
    call: Callable[..., dict[str, Any]],
    bucket: str,
    prefix: str,
    *,
    start_after: str = "",
    token: str = "",
    page_keys: int = 1000,
) -> Page:
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": page_keys}
    request |= {"StartAfter": start_after} if start_after else {}
    request |= {"ContinuationToken": token} if token else {}
    answer = call("list_objects_v2", **request)
    entries = [
        Entry(item["Key"], item["Size"], item["LastModified"].timestamp(), item.get("ETag", "").strip('"') or None)
        for item in answer.get("Contents", [])
        if not item["Key"].endswith("/")
    ]
    return Page(entries, answer["NextContinuationToken"] if answer.get("IsTruncated") else None)


def entry_of(path: str, raw: Mapping[str, Any]) -> Entry:
    """An Entry from fsspec's `info`, whose keys differ by file system."""
    found = (raw.get(name) for name in ("LastModified", "mtime", "last_modified", "updated", "created"))
    when = next((value for value in found if value), 0)
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            when = 0
    if isinstance(when, datetime):
        when = when.timestamp()
    etag = raw.get("ETag") or raw.get("etag")
    return Entry(path, int(raw.get("size") or 0), float(when), str(etag).strip('"') if etag else None)
