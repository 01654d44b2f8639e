"""Every file system of fsspec that has no backend of its own."""

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import fsspec

from pipeline.errors import StorageError
from pipeline.storage.access import Access
from pipeline.storage.backends.backend import Backend, join
from pipeline.storage.faults import redact, s3_code
from pipeline.storage.listing import Entry, Page, Version, entry_of, version_of

BLOCK_BYTES = 2 * 2**20
BLOCKS_KEPT = 8
"""MP4s interleave and seek between index and data: a few blocks avoid fetching the same bytes again."""


class FsspecBackend(Backend):
    """An fsspec file system below one root."""

    upload_options: ClassVar[Mapping[str, Any]] = {}
    read_options: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, uri: str, access: Access, options: Mapping[str, Any]) -> None:
        self._options = options
        try:
            self._fs = self._connect(uri, access, options)
            root = str(self._fs._strip_protocol(uri))
            self._root = "" if root == "/" else root
        except (ImportError, ValueError) as error:
            raise StorageError(f"cannot use {redact(uri)}: {redact(str(error))}") from None

    def _connect(self, uri: str, access: Access, options: Mapping[str, Any]) -> Any:  # noqa: ARG002
        return fsspec.core.url_to_fs(uri, **{"use_listings_cache": False, **options})[0]

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        limits = {} if start is None else {"start": start, "end": end}
        return bytes(self._fs.cat_file(join(self._root, path), **limits, **self.read_options))

    def info(self, path: str) -> Entry | None:
        try:
            raw = self._fs.info(join(self._root, path))
        except FileNotFoundError:
            return None
        return entry_of(path, raw) if raw["type"] == "file" else None

    def open(self, path: str) -> tuple[BinaryIO, Version]:
        name = join(self._root, path)
        raw = self._fs.info(name)
        if raw["type"] != "file":
            raise IsADirectoryError(name)
        return self._open(name), version_of(entry_of(path, raw))

    def _open(self, name: str) -> Any:
        cache = {"cache_type": "blockcache", "cache_options": {"maxblocks": BLOCKS_KEPT}}
        return cast(BinaryIO, self._fs.open(name, "rb", block_size=BLOCK_BYTES, **cache))

    def put(self, path: str, data: bytes | Path) -> None:
        self._upload(path, data, "overwrite")

    def create(self, path: str, data: bytes | Path) -> bool:
        """As `Backend.create`. Data equal to ours counts as ours, because a repeated request hides who wrote it first.

        File systems report a lost race as FileExistsError; as EINVAL, which also has forty other meanings; or as
        FileNotFoundError if an upload of several pieces has already ended. So the existing object is compared.
        """
        try:
            self._upload(path, data, "create")
        except OSError as error:
            if not (isinstance(error, (FileExistsError, FileNotFoundError)) or error.errno == errno.EINVAL):
                raise
            found = None if s3_code(error) == "NoSuchBucket" else self.info(path)
            if not found:
                raise
            return self._holds(found, data)
        return True

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            try:
                self._fs.rm_file(join(self._root, path))
            except FileNotFoundError:
                continue

    def list_page(self, prefix: str, token: str) -> Page:  # noqa: ARG002
        top = join(self._root, prefix)
        try:
            found = self._fs.find(top, detail=True, refresh=True)
        except TypeError:
            found = self._fs.find(top, detail=True)
        except FileNotFoundError:
            return Page([])
        return Page(entry_of(str(name)[len(self._root) :].lstrip("/"), raw) for name, raw in found.items())

    def list_dirs(self, prefix: str) -> list[str]:
        try:
            found = self._fs.ls(join(self._root, prefix), detail=True)
        except FileNotFoundError:
            return []
        return sorted(str(raw["name"]).rstrip("/").rpartition("/")[2] for raw in found if raw["type"] == "directory")

    def is_folder(self, path: str) -> bool:
        return bool(self._fs.isdir(join(self._root, path)))

    def deltalake_options(self) -> dict[str, str]:
        return {str(key): str(value) for key, value in self._options.items()}

    def _upload(self, path: str, data: bytes | Path, mode: str) -> None:
        name = join(self._root, path)
        if isinstance(data, Path):
            self._fs.put_file(str(data), name, mode=mode, **self.upload_options)
        else:
            self._fs.pipe_file(name, data, mode=mode, **self.upload_options)

    def _holds(self, found: Entry, data: bytes | Path) -> bool:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        return found.size == size and self.read(found.path) == (data.read_bytes() if isinstance(data, Path) else data)
