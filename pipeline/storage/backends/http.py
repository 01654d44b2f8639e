"""Web servers: sources only, read in ranges or, if the server has none, from beginning to end."""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, cast

from pipeline.storage.access import Access
from pipeline.storage.backends.backend import join
from pipeline.storage.backends.fsspec import FsspecBackend
from pipeline.storage.contact import check_endpoint
from pipeline.storage.listing import Version, entry_of, version_of


class HttpBackend(FsspecBackend):
    """Below one URL."""

    def _connect(self, uri: str, access: Access, options: Mapping[str, Any]) -> Any:
        check_endpoint(uri)
        return super()._connect(uri, access, options)

    def open(self, path: str) -> tuple[BinaryIO, Version]:
        url = join(self._root, path)
        raw = self._fs.info(url)
        file = self._open(url) if raw.get("partial") else StreamFile(self._fs.open(url, block_size=0))
        return cast(BinaryIO, file), version_of(entry_of(path, raw))


class StreamFile(io.RawIOBase):
    """A file that can only be read from its beginning to its end."""

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
