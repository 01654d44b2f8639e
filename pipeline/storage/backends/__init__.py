"""Storage systems, one module each. To add one: a class in a module here, and its schemes in `_BACKENDS`."""

from collections.abc import Mapping
from typing import Any

from pipeline.storage.access import Access
from pipeline.storage.backends.backend import Backend
from pipeline.storage.backends.fsspec import FsspecBackend
from pipeline.storage.backends.http import HttpBackend
from pipeline.storage.backends.local import LocalBackend
from pipeline.storage.backends.s3 import S3Backend
from pipeline.storage.uris import scheme_of

_BACKENDS: dict[str, type[Backend]] = {
    **dict.fromkeys(("", "file", "local"), LocalBackend),
    **dict.fromkeys(("s3", "s3a"), S3Backend),
    **dict.fromkeys(("http", "https"), HttpBackend),
}


def backend_class(uri: str) -> type[Backend]:
    """The backend that serves a URI; fsspec for every scheme without its own backend."""
    return _BACKENDS.get(scheme_of(uri), FsspecBackend)


def connect(uri: str, access: Access, options: Mapping[str, Any] | None = None) -> Backend:
    """Everything below a URI.

    Raises:
        StorageError: The scheme is unknown, or its settings cannot be used.
    """
    return backend_class(uri)(uri, access, options or {})


__all__ = ["Backend", "backend_class", "connect"]
