"""The same operations on a local file system: after a crash nothing half-written is seen and nothing is lost."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline.storage.listing import Entry

TEMPORARY = ".part-"
"""Prefix of files being written, or left so by a process that was killed; listings leave them out."""


def commit_once(target: Path, data: bytes | Path) -> bool:
    """Create `target` with all of `data`, or return False because it is there already."""
    if target.exists():
        return False
    temporary = _write_beside(target, data)
    try:
        os.link(temporary, target)
    except FileExistsError:  # NFS repeats a link whose answer was lost, and this may be our own (see open(2))
        if temporary.stat().st_nlink < 2:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync(target.parent)
    return True


def put(target: Path, data: bytes | Path) -> None:
    temporary = _write_beside(target, data)
    try:
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def read(path: Path, start: int | None, end: int | None) -> bytes:
    with path.open("rb") as file:
        if start is None:
            return file.read()
        if start < 0:
            start = max(0, os.fstat(file.fileno()).st_size + start)
        file.seek(start)
        return file.read() if end is None else file.read(max(0, end - start))


def walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """All files below, folders in name order; a folder that vanishes meanwhile is empty."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield entry


def entries(folder: Path, *, root: Path, temporary: bool = False) -> Iterator[Entry]:
    """All files below `folder`, or those being written, named from `root`; one that vanishes is not there."""
    for found in walk(str(folder)):
        if found.name.startswith(TEMPORARY) != temporary:
            continue
        try:
            stat = found.stat()
        except FileNotFoundError:
            continue
        yield Entry(os.path.relpath(found.path, root).replace(os.sep, "/"), stat.st_size, stat.st_mtime)


def folders(folder: Path) -> list[str]:
    """Names of the folders directly below."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove(path: Path, *, root: Path) -> None:
    """Delete a file, and the folders it leaves empty."""
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root or root not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def _write_beside(target: Path, data: bytes | Path) -> Path:
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
    """As mkdir -p; what is made is still there after a power failure. Whether it is a folder, using it will tell."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):  # exist_ok looks again: by then another may have removed it
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
