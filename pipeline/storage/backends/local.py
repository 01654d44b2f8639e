"""Folders of this machine. A crash leaves no partial file and loses no file that was reported written."""

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.fs

from pipeline.storage.access import Access
from pipeline.storage.backends.backend import Backend
from pipeline.storage.listing import Entry, Page, Version
from pipeline.storage.uris import local_path

TEMPORARY = ".part-"
"""Prefix of files being written, or abandoned by a killed process; listings leave them out."""


class LocalBackend(Backend):
    """Below one folder."""

    retried: ClassVar[bool] = False
    listings_at_once: ClassVar[int] = 1

    def __init__(self, uri: str, access: Access, options: Mapping[str, Any]) -> None:  # noqa: ARG002
        path = local_path(uri)
        assert path is not None, uri
        self._root = path.absolute()

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        with (self._root / path).open("rb") as file:
            if start is None:
                return file.read()
            if start < 0:
                start = max(0, os.fstat(file.fileno()).st_size + start)
            file.seek(start)
            return file.read() if end is None else file.read(max(0, end - start))

    def info(self, path: str) -> Entry | None:
        try:
            found = (self._root / path).stat()
        except FileNotFoundError:
            return None
        return None if stat.S_ISDIR(found.st_mode) else Entry(path, found.st_size, found.st_mtime)

    def open(self, path: str) -> tuple[BinaryIO, Version]:
        file = (self._root / path).open("rb")
        found = os.fstat(file.fileno())
        return file, Version(size=found.st_size, mtime=found.st_mtime)

    def put(self, path: str, data: bytes | Path) -> None:
        target = self._root / path
        temporary = _write_beside(target, data)
        try:
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def create(self, path: str, data: bytes | Path) -> bool:
        target = self._root / path
        if target.exists():
            return False
        temporary = _write_beside(target, data)
        try:
            os.link(temporary, target)
        except (
            FileExistsError
        ):  # NFS repeats a link after a lost response, so the existing link may be our own (see open(2))
            if temporary.stat().st_nlink < 2:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync(target.parent)
        return True

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files, and the folders below the root that become empty."""
        for path in paths:
            target = self._root / path
            target.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for folder in target.parents:
                    if folder == self._root or self._root not in folder.parents:
                        break
                    folder.rmdir()

    def list_page(self, prefix: str, token: str) -> Page:  # noqa: ARG002
        return Page(self._entries(prefix, unfinished=False))

    def list_dirs(self, prefix: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._root / prefix) if _is_dir(entry))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def is_folder(self, path: str) -> bool:
        return (self._root / path).is_dir()

    def unfinished_writes(self, prefix: str) -> Iterator[Entry]:
        return self._entries(prefix, unfinished=True)

    @classmethod
    def versions(cls, uris: Sequence[str], access: Access, *, budget_s: float) -> list[Version | None]:  # noqa: ARG003
        return [_version(uri) for uri in uris]

    def arrow_filesystem(self) -> pa.fs.FileSystem:
        return pa.fs.SubTreeFileSystem(str(self._root), pa.fs.LocalFileSystem())

    def _entries(self, prefix: str, *, unfinished: bool) -> Iterator[Entry]:
        """All files below a folder, or those being written; broken links are left out."""
        for found in _walk(str(self._root / prefix)):
            if found.name.startswith(TEMPORARY) != unfinished:
                continue
            try:
                status = found.stat()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP):  # deleted meanwhile, or a broken link
                    continue
                raise
            name = os.path.relpath(found.path, self._root).replace(os.sep, "/")
            yield Entry(name, status.st_size, status.st_mtime)


def _walk(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[os.DirEntry[str]]:
    """All files below, folders in name order; a folder that is deleted during the listing is empty.

    Links to folders are followed, but not to one of those `above` (device and inode), which would never end.
    """
    try:
        status = os.stat(folder)  # noqa: PTH116 - as os.scandir, without a Path for every folder
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in entries:
        if _is_dir(entry):
            yield from _walk(entry.path, above | {here})
        else:
            yield entry


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _version(uri: str) -> Version | None:
    path = local_path(uri)
    assert path is not None, uri
    try:
        found = path.stat()
    except OSError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else Version(size=found.st_size, mtime=found.st_mtime)


def _write_beside(target: Path, data: bytes | Path) -> Path:
    """Write all data, durably, to a temporary file in the target's folder; returns it."""
    for _ in range(100):  # another process may remove the emptied folder between the two steps
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        try:
            _make_folder(target.parent)
            file = temporary.open("xb")
            break
        except FileNotFoundError:
            continue
    else:
        raise FileNotFoundError(target.parent)
    try:
        with file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 2**20)
            else:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _make_folder(folder: Path) -> None:
    """As mkdir -p, durable after a power failure. If a file has this path, the first use of the folder fails."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # exist_ok checks again, and another process may have removed it
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
