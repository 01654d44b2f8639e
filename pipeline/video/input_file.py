"""The bytes of one video, shared by several decoders with separate cursors."""

import io
import os
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from pipeline.errors import StorageError
from pipeline.video.failures import TooLargeError

_COPY_BYTES = 1 << 20


class _ReadAt(Protocol):
    def __call__(self, offset: int, size: int, /) -> bytes: ...


class InputFile:
    """Random access to a path or a file object; one that cannot seek is copied to an unnamed temporary file first.

    The caller closes a file object. The copy has no name, so that it is deleted even after a kill -9.
    """

    def __init__(self, origin: BinaryIO | Path, *, name: str, max_spool_bytes: int, on_disk: bool = False) -> None:
        self.name = name
        self.failure: Exception | None = None
        self._own: BinaryIO | None = None
        if isinstance(origin, Path):
            try:
                self._own = origin.open("rb")
            except OSError as error:
                raise StorageError(f"{name}: cannot be opened: {error.strerror or error}") from error
        elif not _is_file(origin) and (on_disk or not origin.seekable()):
            self._own = _spool(origin, name=name, limit=max_spool_bytes)
        file = self._own or cast(BinaryIO, origin)
        self.descriptor = file.fileno() if self._own or _is_file(file) else None
        """Path of a file on this machine; None for a source that `on_disk` would copy."""
        self._read_at: _ReadAt = _locked(file) if self.descriptor is None else _positioned(self.descriptor)
        self.size = file.seek(0, io.SEEK_END) if self.descriptor is None else os.fstat(self.descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes; an error is kept for `check`, because FFmpeg treats it as the end of the file."""
        try:
            return self._read_at(offset, size)
        except Exception as error:
            self.failure = error
        self.check()
        return b""

    def check(self) -> None:
        """Raise the error of an earlier read as a StorageError."""
        if isinstance(self.failure, StorageError):
            raise self.failure
        if self.failure is not None:
            raise StorageError(f"{self.name}: cannot be read: {self.failure}") from self.failure

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


class Cursor(io.RawIOBase):
    """A file object with a position of its own in a shared InputFile."""

    def __init__(self, file: InputFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        # A neutral name: FFmpeg guesses formats from names, and some formats open neighbouring files.
        self.name = "video"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(22, "seek before the beginning")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(0, self._file.size - self._position)
        count = rest if size is None or size < 0 else min(size, rest)
        data = self._file.read(self._position, count) if count else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


class DemuxerInput(Cursor):
    """The file object that FFmpeg reads. It never raises: an error in FFmpeg's callback may surface in another video.

    After a failed read, or once `timed_out`, the file seems to end; the decoder then calls `check` for the reason.
    """

    def __init__(self, file: InputFile, *, timeout_s: float) -> None:
        super().__init__(file)
        self._timeout_s = timeout_s
        self._storage_s = 0.0
        self.restart()

    def restart(self) -> None:
        """Restart the time limit, after a frame."""
        self._since = time.monotonic() - self._storage_s

    @property
    def timed_out(self) -> bool:
        """Whether more than `timeout_s` have passed since `restart`, not counting time spent in storage."""
        return time.monotonic() - self._storage_s - self._since > self._timeout_s

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:
            return -1

    def read(self, size: int | None = -1, /) -> bytes:
        if self._file.failure is not None or self.timed_out:
            return b""
        begun = time.monotonic()
        try:
            return super().read(size)
        except StorageError:
            return b""
        finally:
            self._storage_s += time.monotonic() - begun


def _is_file(file: BinaryIO) -> bool:
    """A regular file on this machine; reads at any offset do not move a shared position."""
    if not isinstance(getattr(file, "raw", file), io.FileIO):
        return False
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _positioned(descriptor: int) -> _ReadAt:
    return lambda offset, size: os.pread(descriptor, size, offset)


def _locked(file: BinaryIO) -> _ReadAt:
    lock = threading.Lock()

    def read_at(offset: int, size: int, /) -> bytes:
        with lock:
            file.seek(offset)
            data = file.read(size)
            while 0 < len(data) < size and (more := file.read(size - len(data))):
                data += more
            return data

    return read_at


def _spool(origin: BinaryIO, *, name: str, limit: int) -> BinaryIO:
    copy = tempfile.TemporaryFile(prefix="sam2-corpus-")  # noqa: SIM115 - the caller keeps it open
    size = 0
    try:
        while data := origin.read(_COPY_BYTES):
            size += len(data)
            if size > limit:
                raise TooLargeError(f"{name}: more than {limit} bytes, the limit for a source that cannot seek")
            copy.write(data)
        copy.flush()
    except OSError as error:
        copy.close()
        raise StorageError(f"{name}: cannot be copied to a temporary file: {error}") from error
    except BaseException:
        copy.close()
        raise
    return copy
