"""Formats that other libraries write; each library is an optional dependency."""

import importlib
from collections.abc import Iterator
from typing import Any, ClassVar

from pipeline.errors import UsageError
from pipeline.formats.selection import Selection, chunks, nothing_selected
from pipeline.formats.split import Splits
from pipeline.formats.video_masks import VideoMasks, read_videos
from pipeline.storage import Storage


class LibraryFormat:
    """A format that a library writes; `name` is also the name of the module."""

    name: ClassVar[str]
    about: ClassVar[str]
    """One line of help."""
    package: ClassVar[str]
    """Name of the package for pip."""

    def write(self, library: Any, selection: Selection, to: str, *, splits: Splits, storage: Storage | None) -> int:
        """Write the selection; returns the number of masks."""
        raise NotImplementedError


def write_with_library(
    form: LibraryFormat, selection: Selection, to: str, *, splits: Splits, storage: Storage | None = None
) -> int:
    """Write the selection; returns the number of masks.

    Raises:
        UsageError: The library is not installed, or nothing is selected.
    """
    try:
        library = importlib.import_module(form.name)
    except ImportError as error:
        raise UsageError(f"format {form.name} needs {form.package}: pip install {form.package} ({error})") from error
    if not selection.counts():
        raise nothing_selected(selection)
    return form.write(library, selection, to, splits=splits, storage=storage)


def videos_of(selection: Selection, splits: Splits) -> Iterator[VideoMasks]:
    """The selected videos in order, read chunk by chunk."""
    for chunk in chunks(selection.counts()):
        yield from read_videos(selection, chunk, splits)
