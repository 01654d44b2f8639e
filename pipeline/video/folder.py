"""Folders of images as videos, on any storage: what is in them, and their version."""

import hashlib
from functools import partial

from pipeline.errors import StorageError
from pipeline.storage import Storage, Store, Version
from pipeline.storage.filesystems import local_path
from pipeline.video.image_files import ImageFiles


def is_folder(uri: str) -> bool:
    """Whether a video_uri means a folder of images: it ends in a slash, or is a folder of this machine."""
    path = local_path(uri)
    return uri.endswith("/") or (path is not None and path.is_dir())


def open_folder(uri: str, *, storage: Storage) -> tuple[ImageFiles, Version]:
    """The files of a folder (not of folders in it), and a version that changes with any of them.

    Raises:
        StorageError: It is not there, or empty.
    """
    store = Store(uri.rstrip("/"), storage=storage)
    entries = [entry for entry in store.list() if "/" not in entry.path]
    if not entries:
        raise StorageError(f"{store}/ holds no files; a folder as a video holds its frames as JPEG or PNG")
    state = sorted((entry.path, entry.size, entry.etag or entry.mtime) for entry in entries)
    digest = hashlib.sha256(repr(state).encode()).hexdigest()
    version = Version(size=sum(entry.size for entry in entries), etag=digest)
    return {entry.path: partial(store.read, entry.path) for entry in entries}, version
