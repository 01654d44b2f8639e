"""The interface of storage systems that hold outputs and sources."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, Self

import pyarrow.fs

from pipeline.errors import StorageError
from pipeline.storage.access import Access
from pipeline.storage.faults import with_retries
from pipeline.storage.listing import Entry, Page, Version, version_of

THREADS = 16


class Backend(Protocol):
    """Everything below one root URI.

    Paths are relative to the root and "" is the root itself, which may be a file. Each method tries once and raises
    the storage's own errors: `Store` retries transient ones and turns the others into a StorageError. Methods with a
    body are defaults. Thread-safe.
    """

    retried: ClassVar[bool] = True
    """Whether errors may be transient, as those of a network."""
    listings_at_once: ClassVar[int] = THREADS
    deletes_at_once: ClassVar[int] = 1
    """Paths that one call of `delete` may name."""

    def __init__(self, uri: str, access: Access, options: Mapping[str, Any]) -> None:
        """Connect to a root; `options` are passed on to the client library."""
        ...

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """An object's bytes from `start` to `end`; a negative `start` counts from the end."""
        ...

    def info(self, path: str) -> Entry | None:
        """One object, from the storage and not from a cache; None for folders and absent objects."""
        ...

    def open(self, path: str) -> tuple[BinaryIO, Version]:
        """A file that reads ranges, seekable where the storage allows, and the version that is open.

        Raises:
            IsADirectoryError: It is a folder.
        """
        ...

    def put(self, path: str, data: bytes | Path) -> None:
        """Write or overwrite, all or nothing. A Path is a local file to copy."""
        ...

    def create(self, path: str, data: bytes | Path) -> bool:
        """Create, all or nothing; False if the object exists. Of many writers exactly one gets True."""
        ...

    def delete(self, paths: Sequence[str]) -> None:
        """Delete up to `deletes_at_once` objects; an absent one is no error."""
        ...

    def list_page(self, prefix: str, token: str) -> Page:
        """Entries below the folder `prefix`, from the first ("") or after another page. Never from a cache."""
        ...

    def list_dirs(self, prefix: str) -> list[str]:
        """Sorted names of the folders directly below the folder `prefix`."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether any object is below `path`, in one request."""
        ...

    def unfinished_writes(self, prefix: str) -> Iterator[Entry]:  # noqa: ARG002
        """Unfinished files of killed processes, if `list_page` leaves them out."""
        return iter(())

    @classmethod
    def versions(cls: type[Self], uris: Sequence[str], access: Access, *, budget_s: float) -> list[Version | None]:
        """The version of each source; None if it is absent or cannot be reached. Retries for `budget_s`."""

        def ask(uri: str) -> Version | None:
            try:
                found = with_retries(lambda: cls(uri, access, {}).info(""), what="look at", uri=uri, budget_s=budget_s)
            except StorageError:
                return None
            return version_of(found) if found else None

        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(ask, uris))

    def deltalake_options(self) -> dict[str, str]:
        """storage_options with which delta-rs reaches the root; may contain secrets."""
        return {}

    def arrow_filesystem(self) -> pyarrow.fs.FileSystem | None:
        """Arrow's own file system of the root; None if Arrow has none for it."""
        return None


def join(root: str, path: str) -> str:
    """A path below a root; the root itself for ""."""
    return f"{root}/{path}" if path else root
