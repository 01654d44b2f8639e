"""What lies in storage, as every file system tells it."""

import dataclasses
from collections.abc import Mapping
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
