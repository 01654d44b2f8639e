"""The one class between this package and storage: local folders, S3 and every other fsspec URL."""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.fs

from pipeline.errors import UsageError
from pipeline.storage.access import Storage
from pipeline.storage.backends import Backend, connect
from pipeline.storage.faults import RETRY_BUDGET_S, MissingError, explain, redact, with_retries
from pipeline.storage.listing import Entry, Page
from pipeline.storage.paths import PROBES, SHARDS
from pipeline.storage.sources import open_below
from pipeline.storage.uris import local_path

T = TypeVar("T")
Entries = list[Entry]  # within Store, `list` is its method
Names = list[str]

DELETING_THREADS = 16


class Store:
    """Everything below one URI. Paths are relative to it, with '/' between segments; thread-safe and picklable.

    Transient errors are retried for `retry_budget_s`; after that, and for other errors, StorageError is raised.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        storage: Storage | None = None,
        storage_options: Mapping[str, Any] | None = None,
        retry_budget_s: float = RETRY_BUDGET_S,
    ) -> None:
        given = os.fspath(uri)
        if not given:
            raise UsageError("an output or source URI is empty; give a path or an fsspec URL")
        folder = local_path(given)
        self.is_local = folder is not None
        self.uri = str(folder.absolute()) if folder else given.rstrip("/")
        """The root URI; it may hold user:password@, so show `str(store)` instead."""
        self.storage = storage or Storage()
        self.retry_budget_s = retry_budget_s
        self._options = dict(storage_options or {})
        self._connected: tuple[int, Backend] | None = None

    def __str__(self) -> str:
        return redact(self.uri)

    def __repr__(self) -> str:
        return f"Store({redact(self.uri)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": None}

    def uri_of(self, path: str = "") -> str:
        """The URI of an object below the store."""
        return f"{self.uri}/{_checked(path)}" if path else self.uri

    # --- reading

    def read(self, path: str) -> bytes:
        """All bytes of one object.

        Raises:
            MissingError: It does not exist.
        """
        return self._ask("read", path, lambda at: at.read(path))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, or fewer if the object ends before."""
        return self._ask("read", path, lambda at: at.read(path, start, end))

    def read_tail(self, path: str, size: int) -> bytes:
        """The last `size` bytes, or all if there are fewer."""
        return self._ask("read", path, lambda at: at.read(path, -size))

    def read_or_none(self, path: str) -> bytes | None:
        """All bytes of one object; None if it does not exist."""
        try:
            return self.read(path)
        except MissingError:
            return None

    def info(self, path: str) -> Entry | None:
        """Size, time and etag of one object, from the storage and not from a cache; None if it does not exist."""
        return self._ask("look at", path, lambda at: at.info(path))

    def exists(self, path: str) -> bool:
        """Whether an object exists; a folder is no object."""
        return self.info(path) is not None

    def open(self, path: str) -> BinaryIO:
        """A seekable file whose ranged reads are retried and cached in blocks."""
        return open_below(self._backend, path, uri=self.uri_of(path), budget_s=self.retry_budget_s)[0]

    # --- writing

    def put(self, path: str, data: bytes | Path) -> None:
        """Write or overwrite, all or nothing. A Path is a local file to upload."""
        self._ask("write", path, lambda at: at.put(path, data))

    def commit_once(self, path: str, data: bytes | Path) -> bool:
        """Create, never replace: True if this call wrote it, False if it already exists.

        Of several writers of different data exactly one gets True, and readers see all of `data` or nothing. Remote
        data equal to ours counts as ours, because clients repeat a request after a lost response.
        """
        return self._ask("write", path, lambda at: at.create(path, data))

    def delete(self, path: str) -> None:
        """Delete one object; does nothing if it does not exist."""
        self._ask("delete", path, lambda at: at.delete([path]))

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything below `prefix`, unfinished writes included; returns the number of files."""
        doomed = [entry.path for found in (self.unfinished_writes(prefix), self.list(prefix)) for entry in found]
        self.delete_many(doomed)
        return len(doomed)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete many objects, as many per request as the storage allows."""
        if (size := self._backend.deletes_at_once) == 1:
            with ThreadPoolExecutor(DELETING_THREADS) as threads:
                list(threads.map(self.delete, paths))
            return
        left = iter(paths)
        while some := [_checked(path) for path in islice(left, size)]:
            self._ask("delete", os.path.commonpath(some), partial(_delete, some))

    def check_writable(self) -> None:
        """Raise if the store is not writable, before hours of labelling. Retries for a few seconds only."""
        impatient = Store(
            self.uri, storage=self.storage, storage_options=self._options, retry_budget_s=min(5.0, self.retry_budget_s)
        )
        probe = f"{PROBES}/{uuid.uuid4().hex}"
        impatient.put(probe, b"")
        impatient.delete(probe)

    # --- listing

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below the folder `prefix`, fresh from the storage."""
        token: str | None = ""
        while token is not None:
            page = self._ask("list", prefix, partial(_list_page, prefix, token))
            with self._explained("list", prefix):
                yield from page.entries
            token = page.next_token

    def list_sharded(self, prefix: str) -> Iterator[Entries]:
        """Everything below PREFIX/HH/, the shards listed at the same time, one list per shard in order."""
        return self.map_shards(prefix, list)

    def map_shards(self, prefix: str, read: Callable[[Iterator[Entry]], T]) -> Iterator[T]:
        """The result of `read` for the entries of each shard, in order; it runs in the thread that lists the shard."""
        shards = (f"{prefix}/{shard}" for shard in SHARDS)
        if self._backend.listings_at_once == 1:
            yield from (read(self.list(shard)) for shard in shards)
            return
        with ThreadPoolExecutor(self._backend.listings_at_once) as threads:
            yield from threads.map(lambda shard: read(self.list(shard)), shards)

    def list_dirs(self, prefix: str = "") -> Names:
        """Names of the folders directly below `prefix`, sorted."""
        return self._ask("list", prefix, lambda at: at.list_dirs(prefix))

    def is_folder(self, path: str = "") -> bool:
        """Whether any object is below `path`, in one request."""
        return self._ask("list", path, lambda at: at.is_folder(path))

    def unfinished_writes(self, prefix: str = "") -> Entries:
        """Files of unfinished local writes, including those of killed processes; listings leave them out."""
        with self._explained("list", prefix):
            return [*self._backend.unfinished_writes(_checked(prefix) if prefix else "")]

    # --- for delta-rs and Arrow

    def deltalake_options(self) -> dict[str, str]:
        """storage_options of delta-rs for this store; contains secrets."""
        return self._backend.deltalake_options()

    def arrow_filesystem(self) -> pa.fs.FileSystem | None:
        """Arrow's own file system rooted here; None if Arrow has none for it."""
        return self._backend.arrow_filesystem()

    def with_retries(
        self, action: Callable[[], T], what: str, path: str, *, passes: tuple[type[BaseException], ...] = ()
    ) -> T:
        """The result of another library's `action` at `path`, with this store's retries and error messages."""
        return with_retries(
            action,
            what=what,
            uri=self.uri_of(path),
            budget_s=self.retry_budget_s,
            retry=self._backend.retried,
            passes=passes,
        )

    # --- inside

    def _ask(self, what: str, path: str, action: Callable[[Backend], T]) -> T:
        return self.with_retries(partial(action, self._backend), what, path)

    @contextmanager
    def _explained(self, what: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain(error, what=what, uri=self.uri_of(path)) from None

    @property
    def _backend(self) -> Backend:
        if self._connected is None or self._connected[0] != os.getpid():  # a forked process must not share connections
            self._connected = (os.getpid(), connect(self.uri, self.storage.access(self.uri), self._options))
        return self._connected[1]


def _delete(paths: Sequence[str], backend: Backend) -> None:
    backend.delete(paths)


def _list_page(prefix: str, token: str, backend: Backend) -> Page:
    return backend.list_page(prefix, token)


def _checked(path: str) -> str:
    if path.startswith("/") or any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path
