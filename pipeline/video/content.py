"""A video's content, a file or a folder of images: open, with its version, and which version is there now."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import BinaryIO

from pipeline.errors import StorageError
from pipeline.storage import Storage, Version, open_source, source_versions
from pipeline.video.folder import is_folder, open_folder
from pipeline.video.image_files import ImageFiles


@contextmanager
def opened(uri: str, *, storage: Storage) -> Iterator[tuple[BinaryIO | ImageFiles, Version]]:
    """What is read, and its version when it was opened.

    Raises:
        StorageError: It cannot be reached or is not there.
    """
    if is_folder(uri):
        yield open_folder(uri, storage=storage)
        return
    file, version = open_source(uri, storage=storage)
    with closing(file):
        yield file, version


def version_now(uri: str, *, storage: Storage) -> Version | None:
    """The version that is there now; None where nothing is, or nothing can be reached."""
    if not is_folder(uri):
        return source_versions([uri], storage=storage)[0]
    try:
        return open_folder(uri, storage=storage)[1]
    except StorageError:
        return None
