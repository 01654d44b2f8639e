"""Files that this package does not write: videos and manifests, with their versions. Reads are retried."""

import io
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from pipeline.storage.access import Access, Storage
from pipeline.storage.backends import Backend, backend_class, connect
from pipeline.storage.faults import RETRY_BUDGET_S, MissingError, redact, with_retries
from pipeline.storage.listing import Version


class SourceFile(io.RawIOBase):
    """A seekable file whose reads are retried. Wraps a client's file, which caches and notices a replaced object."""

    def __init__(self, inner: BinaryIO, *, size: int, uri: str, budget_s: float) -> None:
        self._inner = inner
        self._uri = uri
        self._budget_s = budget_s
        self._at = 0
        self.size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self.size - self._at))
        if wanted == 0:
            return 0
        data = with_retries(lambda: self._fetch(wanted), what="read", uri=self._uri, budget_s=self._budget_s)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, wanted: int) -> bytes:
        self._inner.seek(self._at)
        return self._inner.read(wanted)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def open_below(backend: Backend, path: str, *, uri: str, budget_s: float) -> tuple[BinaryIO, Version]:
    """A file below a backend's root, with retries if its errors may be transient, and the version that is open."""
    try:
        file, version = with_retries(
            lambda: backend.open(path),
            what="open",
            uri=uri,
            budget_s=budget_s,
            retry=backend.retried,
            passes=(IsADirectoryError,),
        )
    except IsADirectoryError:
        raise MissingError(f"cannot open {redact(uri)}: expected a file, found a directory") from None
    if not backend.retried or not file.seekable():
        return file, version
    return cast(BinaryIO, SourceFile(file, size=version.size, uri=uri, budget_s=budget_s)), version


def open_source(
    uri: str | os.PathLike[str], *, storage: Storage | None = None, retry_budget_s: float = RETRY_BUDGET_S
) -> tuple[BinaryIO, Version]:
    """A source as a binary file, and the version that is open; seekable unless a web server has no ranges.

    Raises:
        StorageError: It does not exist (MissingError), is a folder, or cannot be reached.
    """
    given = os.fspath(uri)
    backend = connect(given, (storage or Storage()).access(given))
    return open_below(backend, "", uri=given, budget_s=retry_budget_s)


def source_versions(
    uris: Sequence[str], *, storage: Storage | None = None, retry_budget_s: float = RETRY_BUDGET_S
) -> list[Version | None]:
    """The version of each source, in order; None if it is absent or cannot be reached."""
    storage = storage or Storage()
    alike: dict[tuple[type[Backend], Access], list[int]] = defaultdict(list)
    for at, uri in enumerate(uris):
        alike[backend_class(uri), storage.access(uri)].append(at)
    found: list[Version | None] = [None] * len(uris)
    for (backend, access), where in alike.items():
        versions = backend.versions([uris[at] for at in where], access, budget_s=retry_budget_s)
        for at, version in zip(where, versions, strict=True):
            found[at] = version
    return found
