"""Reading what others own: a video or manifest as a seekable file that survives storage trouble, and its version."""

import dataclasses
import io
import os
from typing import Any, BinaryIO, cast

from pipeline.storage.faults import RETRY_BUDGET_S, MissingError, attempt, redact
from pipeline.storage.filesystems import Storage, filesystem, local_path
from pipeline.storage.listing import entry_of

BLOCK_BYTES = 2 * 2**20
BLOCKS_KEPT = 8
"""MP4s interleave and seek between index and data: a few blocks avoid fetching the same bytes again."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """What tells one content of a source from another without reading it."""

    size: int
    etag: str | None = None
    mtime: float | None = None

    def token(self) -> str:
        """For the label key: size + etag, else size + modification time."""
        return f"{self.size}-{self.etag}" if self.etag else f"{self.size}-{self.mtime}"


class SourceFile(io.RawIOBase):
    """A remote file whose reads are retried. Wraps fsspec's file, which caches blocks and notices a replaced object."""

    def __init__(self, inner: Any, *, uri: str, budget_s: float) -> None:
        self._inner = inner
        self._uri = uri
        self._budget_s = budget_s
        self._at = 0
        self.size = int(inner.size)

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
        data = attempt(lambda: self._fetch(wanted), what="read", uri=self._uri, budget_s=self._budget_s)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _fetch(self, wanted: int) -> bytes:
        self._inner.seek(self._at)
        return cast(bytes, self._inner.read(wanted))

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def open_remote(fs: Any, path: str, *, uri: str, budget_s: float) -> BinaryIO:
    inner = attempt(
        lambda: fs.open(
            path, "rb", block_size=BLOCK_BYTES, cache_type="blockcache", cache_options={"maxblocks": BLOCKS_KEPT}
        ),
        what="open",
        uri=uri,
        budget_s=budget_s,
    )
    return cast(BinaryIO, SourceFile(inner, uri=uri, budget_s=budget_s))


class StreamFile(io.RawIOBase):
    """A web server's file that can only be read from its beginning to its end, because it gives no ranges."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


def open_source(
    uri: str | os.PathLike[str], *, storage: Storage | None = None, retry_budget_s: float = RETRY_BUDGET_S
) -> tuple[BinaryIO, Version]:
    """A source as a binary file, and the version that is open; seekable unless a web server gives no ranges."""
    given = os.fspath(uri)
    if (local := local_path(given)) is not None:
        file = attempt(lambda: local.open("rb"), what="open", uri=given, retry=False)
        stat = os.fstat(file.fileno())
        return file, Version(size=stat.st_size, mtime=stat.st_mtime)
    fs, path = filesystem(given, (storage or Storage()).access(given))
    raw = attempt(lambda: fs.info(path), what="open", uri=given, budget_s=retry_budget_s)
    if raw["type"] != "file":
        raise MissingError(f"cannot open {redact(given)}: it is a folder, not a file")
    found = entry_of(path, raw)
    version = Version(size=found.size, etag=found.etag, mtime=found.mtime or None)
    if given.startswith(("http://", "https://")) and not raw.get("partial"):
        stream = attempt(lambda: fs.open(path, "rb", block_size=0), what="open", uri=given, budget_s=retry_budget_s)
        return cast(BinaryIO, StreamFile(stream)), version
    return open_remote(fs, path, uri=given, budget_s=retry_budget_s), version
