"""Metadata of stored objects, in the same form for every backend."""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One object."""

    path: str
    """Relative to the root that was listed."""
    size: int
    mtime: float
    """Seconds since 1970; 0 if the storage has none."""
    etag: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """Identifies the content of a source without reading it."""

    size: int
    etag: str | None = None
    mtime: float | None = None

    def token(self) -> str:
        """For the label key: size + etag, else size + modification time."""
        return f"{self.size}-{self.etag}" if self.etag else f"{self.size}-{self.mtime}"


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing."""

    entries: Iterable[Entry]
    next_token: str | None = None
    """Where the next page begins; None after the last."""


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


def version_of(entry: Entry) -> Version:
    """The version of a remote object."""
    return Version(size=entry.size, etag=entry.etag, mtime=entry.mtime or None)
