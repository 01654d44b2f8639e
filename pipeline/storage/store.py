"""The one class between this package and storage: local folders, S3 and every other fsspec URL."""

import errno
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from stat import S_ISDIR
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
import pyarrow.fs

from pipeline.errors import UsageError
from pipeline.storage import local
from pipeline.storage.faults import RETRY_BUDGET_S, MissingError, attempt, explain, redact, s3_code, s3_error
from pipeline.storage.filesystems import Storage, arrow_filesystem, deltalake_options, filesystem, local_path
from pipeline.storage.listing import Entry, entry_of
from pipeline.storage.paths import PROBES, SHARDS
from pipeline.storage.s3_listing import S3Lister
from pipeline.storage.sources import open_remote

log = logging.getLogger(__name__)
T = TypeVar("T")
Entries = list[Entry]  # within Store, `list` is its method
Names = list[str]

LISTING_THREADS = 16
S3_DELETES = 1000
"""The most that one request may name."""
UPLOAD_CHUNK_BYTES = 64 * 2**20
"""S3 gets twice as much in one conditional request, and only what is larger in several uploads and a conditional end:
of three such ends at the same moment SeaweedFS 4.48 let two or three through, in 4 of 60 tries on a busy machine; of
single requests none in 80."""


class Store:
    """Everything below one URI. Paths are relative to it, with '/' between segments; thread-safe and picklable."""

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
        self._root = folder.absolute() if folder else None
        self.uri = str(self._root) if self._root else given.rstrip("/")
        """Where this is; may hold user:password@, so show `str(store)` instead."""
        self.storage = storage or Storage()
        self.retry_budget_s = retry_budget_s
        self._options = dict(storage_options or {})
        self._remote: tuple[int, Any, str] | None = None

    def __str__(self) -> str:
        return redact(self.uri)

    def __repr__(self) -> str:
        return f"Store({redact(self.uri)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_remote": None}

    @property
    def is_local(self) -> bool:
        return self._root is not None

    def uri_of(self, path: str = "") -> str:
        return f"{self.uri}/{_checked(path)}" if path else self.uri

    # --- reading

    def read(self, path: str) -> bytes:
        return self._read(path, None, None)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return self._read(path, start, end)

    def read_tail(self, path: str, size: int) -> bytes:
        """The last `size` bytes, or all where there are fewer."""
        return self._read(path, -size, None)

    def read_or_none(self, path: str) -> bytes | None:
        try:
            return self.read(path)
        except MissingError:
            return None

    def info(self, path: str) -> Entry | None:
        """Size, time and etag of one object, asked of the storage and not of a cache; None when it is not there."""
        if self._root:
            try:
                found = self.attempt(lambda: self._file(path).stat(), "look at", path, passes=(FileNotFoundError,))
            except (FileNotFoundError, MissingError):
                return None
            return Entry(path, found.st_size, found.st_mtime) if not S_ISDIR(found.st_mode) else None
        fs, root = self._fs()
        try:
            raw = self.attempt(lambda: fs.info(_join(root, path)), "look at", path, passes=(FileNotFoundError,))
        except (FileNotFoundError, MissingError):
            return None
        return entry_of(path, raw) if raw["type"] == "file" else None

    def exists(self, path: str) -> bool:
        return self.info(path) is not None

    def open(self, path: str) -> BinaryIO:
        """A seekable file whose ranged reads are retried and cached in blocks."""
        if self._root:
            return self.attempt(lambda: self._file(path).open("rb"), "open", path)
        fs, root = self._fs()
        return open_remote(fs, _join(root, path), uri=self.uri_of(path), budget_s=self.retry_budget_s)

    # --- writing

    def put(self, path: str, data: bytes | Path) -> None:
        """Write or overwrite, all or nothing. A Path is a local file to upload."""
        if self._root:
            self.attempt(lambda: local.put(self._file(path), data), "write", path)
        else:
            self.attempt(lambda: self._upload(path, data, "overwrite"), "write", path)

    def commit_once(self, path: str, data: bytes | Path) -> bool:
        """Create, never replace: True when this call wrote it, False when it was there already.

        Of several writers of different data exactly one gets True, and nobody ever sees less than all of `data`. Remote
        data equal to ours counts as ours: what repeats a request whose answer was lost may not say so.
        """
        if self._root:
            return self.attempt(lambda: local.commit_once(self._file(path), data), "write", path)

        def create() -> bool:
            try:
                self._upload(path, data, "create")
            except OSError as error:
                # A lost race is FileExistsError, or EINVAL, which stands for forty other refusals too, or for an upload
                # in several pieces that has ended already FileNotFoundError: look.
                if not (isinstance(error, (FileExistsError, FileNotFoundError)) or error.errno == errno.EINVAL):
                    raise
                found = None if s3_code(error) == "NoSuchBucket" else self.info(path)
                if not found:
                    raise explain(error, what="write", uri=self.uri_of(path)) from None
                return self._is(found, data)
            return True

        return self.attempt(create, "write", path)

    def delete(self, path: str) -> None:
        """Delete one object; nothing happens when it is not there."""
        if self._root:
            root = self._root
            self.attempt(lambda: local.remove(self._file(path), root=root), "delete", path)
            return
        fs, root_path = self._fs()
        try:
            self.attempt(lambda: fs.rm_file(_join(root_path, path)), "delete", path, passes=(FileNotFoundError,))
        except FileNotFoundError:
            return

    def delete_prefix(self, prefix: str) -> int:
        """Delete everything below `prefix`, unfinished writes, too; returns how many files there were."""
        doomed = [entry.path for found in (self.unfinished_writes(prefix), self.list(prefix)) for entry in found]
        self.delete_many(doomed)
        return len(doomed)

    def delete_many(self, paths: Iterable[str]) -> None:
        """Delete many objects, a thousand a request where the storage allows."""
        if self._root is None and hasattr(self._fs()[0], "call_s3"):
            left = iter(paths)
            while some := list(islice(left, S3_DELETES)):
                self.attempt(partial(self._delete_from_s3, some), "delete", os.path.commonpath(some))
            return
        with ThreadPoolExecutor(LISTING_THREADS) as threads:
            list(threads.map(self.delete, paths))

    def check_writable(self) -> None:
        """Fail now, with the reason, and not after hours of labelling. Tries for a few seconds only."""
        impatient = Store(
            self.uri, storage=self.storage, storage_options=self._options, retry_budget_s=min(5.0, self.retry_budget_s)
        )
        probe = f"{PROBES}/{uuid.uuid4().hex}"
        impatient.put(probe, b"")
        impatient.delete(probe)

    # --- listing

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below the folder `prefix`, fresh from the storage."""
        if self._root:
            yield from self._local_entries(prefix)
            return
        fs, root_path = self._fs()
        top = _join(root_path, prefix) if prefix else root_path
        if hasattr(fs, "call_s3"):
            bucket, _, key = top.partition("/")
            strip = len(root_path.partition("/")[2])
            strip += 1 if strip else 0
            lister = S3Lister(fs)
            for page in lister.pages(
                bucket, f"{key}/" if key else "", retried=partial(self.attempt, what="list", path=prefix)
            ):
                for entry in page:
                    yield Entry(entry.path[strip:], entry.size, entry.mtime, entry.etag)
            return
        try:
            found_all = self.attempt(
                lambda: fs.find(top, detail=True, refresh=True), "list", prefix, passes=(FileNotFoundError, TypeError)
            )
        except TypeError:
            found_all = self.attempt(lambda: fs.find(top, detail=True), "list", prefix)
        except FileNotFoundError:
            return
        for name, raw in found_all.items():
            yield entry_of(str(name)[len(root_path) :].lstrip("/"), raw)

    def unfinished_writes(self, prefix: str = "") -> Entries:
        """Files that local writes have not finished, which no listing shows: those of killed processes stay."""
        return list(self._local_entries(prefix, temporary=True)) if self._root else []

    def list_sharded(self, prefix: str) -> Iterator[Entries]:
        """Everything below PREFIX/HH/, the shards listed at the same time, one list per shard in order."""
        return self.map_shards(prefix, list)

    def map_shards(self, prefix: str, read: Callable[[Iterator[Entry]], T]) -> Iterator[T]:
        """What `read` makes of each shard's entries, in the thread that lists it: where all would be too many."""
        if self._root:
            yield from (read(self.list(f"{prefix}/{shard}")) for shard in SHARDS)
            return
        with ThreadPoolExecutor(LISTING_THREADS) as threads:
            yield from threads.map(lambda shard: read(self.list(f"{prefix}/{shard}")), SHARDS)

    def list_dirs(self, prefix: str) -> Names:
        """Names of the folders directly below `prefix`, sorted."""
        if self._root:
            folder = self._file(prefix) if prefix else self._root
            return self.attempt(lambda: local.folders(folder), "list", prefix)
        fs, root = self._fs()
        try:
            found = self.attempt(
                lambda: fs.ls(_join(root, prefix), detail=True), "list", prefix, passes=(FileNotFoundError,)
            )
        except (FileNotFoundError, MissingError):
            return []
        return sorted(str(raw["name"]).rstrip("/").rpartition("/")[2] for raw in found if raw["type"] == "directory")

    # --- for delta-rs and Arrow

    def deltalake_options(self) -> dict[str, str]:
        """storage_options with which delta-rs reaches what this store reaches; contains secrets."""
        if not self.uri.startswith(("s3://", "s3a://")):
            return {str(key): str(value) for key, value in self._options.items()}
        return deltalake_options(self.storage.access(self.uri), self._options)

    def arrow_filesystem(self) -> pa.fs.FileSystem | None:
        """Arrow's own file system rooted here; None where Arrow has none for it."""
        return arrow_filesystem(self.uri, self.storage.access(self.uri), self._options)

    def attempt(
        self, action: Callable[[], T], what: str, path: str, *, passes: tuple[type[BaseException], ...] = ()
    ) -> T:
        """Run what delta-rs or another library does at `path` with this store's patience and its words for errors."""
        return attempt(
            action,
            what=what,
            uri=self.uri_of(path),
            budget_s=self.retry_budget_s,
            retry=self._root is None,
            passes=passes,
        )

    # --- inside

    def _file(self, path: str) -> Path:
        assert self._root is not None
        return self._root / _checked(path)

    def _local_entries(self, prefix: str, *, temporary: bool = False) -> Iterator[Entry]:
        assert self._root is not None
        folder = self._file(prefix) if prefix else self._root
        try:
            yield from local.entries(folder, root=self._root, temporary=temporary)
        except OSError as error:
            raise explain(error, what="list", uri=self.uri_of(prefix)) from None

    def _fs(self) -> tuple[Any, str]:
        if self._remote is None or self._remote[0] != os.getpid():  # a fork must not share connections
            fs, root = filesystem(self.uri, self.storage.access(self.uri), self._options)
            self._remote = (os.getpid(), fs, root.rstrip("/"))
        return self._remote[1], self._remote[2]

    def _read(self, path: str, start: int | None, end: int | None) -> bytes:
        if self._root:
            return self.attempt(lambda: local.read(self._file(path), start, end), "read", path)
        fs, root = self._fs()
        name = _join(root, path)
        # one request where s3fs would first ask for the size
        request: dict[str, Any] = {"max_concurrency": 1} if hasattr(fs, "call_s3") else {}
        if start is not None:
            request |= {"start": start, "end": end}
        return bytes(self.attempt(lambda: fs.cat_file(name, **request), "read", path))

    def _delete_from_s3(self, paths: Names) -> None:
        fs, root = self._fs()
        bucket, _, key = root.partition("/")
        keys = [{"Key": _join(key, path) if key else _checked(path)} for path in paths]
        answer = fs.call_s3("delete_objects", Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
        for error in answer.get("Errors", []):
            raise s3_error(error, "DeleteObjects")

    def _upload(self, path: str, data: bytes | Path, mode: str) -> None:
        fs, root = self._fs()
        chunks: dict[str, Any] = (
            {"chunksize": UPLOAD_CHUNK_BYTES, "max_concurrency": 2} if hasattr(fs, "call_s3") else {}
        )
        if isinstance(data, Path):
            fs.put_file(str(data), _join(root, path), mode=mode, **chunks)
        else:
            fs.pipe_file(_join(root, path), data, mode=mode, **chunks)

    def _is(self, found: Entry, data: bytes | Path) -> bool:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        return found.size == size and self.read(found.path) == (data.read_bytes() if isinstance(data, Path) else data)


def _checked(path: str) -> str:
    if path.startswith("/") or any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError(f"{path!r} is not a plain relative path")
    return path


def _join(root: str, path: str) -> str:
    return f"{root}/{_checked(path)}" if path else root
