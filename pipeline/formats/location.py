"""Where masks are read from: a file or folder, and facts from its names and first file."""

import itertools
import json
import os
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.errors import UsageError
from pipeline.storage import Storage, Store
from pipeline.storage.uris import local_path

EXPORT_STATE = "_export"
"""Folder below an export that holds its records; see `pipeline.formats.export`."""

LISTED_FILES = 2_000
"""Files of a folder whose names are examined to detect its format."""


class Location:
    """A file or a folder in a store. What detection needs is looked up on first use, and only once."""

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path

    def __str__(self) -> str:
        return str(self.store.uri_of(self.path))

    @classmethod
    def of(cls, uri: str, storage: Storage | None = None) -> "Location":
        """The location of a path or fsspec URL; nothing is opened yet."""
        if (local := local_path(uri)) is not None:
            path = Path(os.path.abspath(local))  # noqa: PTH100 - resolve `..`, but keep links
            return cls(Store(path.parent, storage=storage), path.name)
        folder, _, name = uri.rstrip("/").rpartition("/")
        if folder.endswith(":/"):  # a whole bucket
            return cls(Store(uri, storage=storage), "")
        return cls(Store(folder, storage=storage), name)

    @cached_property
    def is_file(self) -> bool:
        """Whether this is a file; False for a folder and if it does not exist."""
        return bool(self.path) and self.store.exists(self.path)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Names of the folders directly below."""
        return frozenset(self.store.list_dirs(self.path))

    @cached_property
    def first_files(self) -> tuple[str, ...]:
        """The path of the file itself, or of the first files below a folder."""
        if self.is_file:
            return (self.path,)
        return tuple(one.path for one in itertools.islice(self.store.list(self.path), LISTED_FILES))

    @cached_property
    def suffixes(self) -> frozenset[str]:
        """Suffixes of the file, or of the first files below a folder."""
        return frozenset(map(suffix_of, self.first_files))

    @cached_property
    def first_json(self) -> str | None:
        """The path of the first JSON file, or None."""
        return next((path for path in self.first_files if suffix_of(path) == ".json"), None)

    @cached_property
    def json_keys(self) -> frozenset[str]:
        """Keys of the first JSON file; empty where there is none, or where it is not an object.

        Raises:
            UsageError: The file is not JSON.
        """
        if self.first_json is None:
            return frozenset()
        document = self.load_json(self.first_json)
        return frozenset(document) if isinstance(document, dict) else frozenset()

    @cached_property
    def exported_as(self) -> str | None:
        """The format recorded by the export that wrote this folder; None where none is recorded."""
        if EXPORT_STATE not in self.folders or not (said := self.read_or_none(f"{EXPORT_STATE}/export.json")):
            return None
        try:
            return str(json.loads(said)["format"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def join(self, name: str) -> str:
        """The path of something below the folder."""
        return f"{self.path}/{name}" if self.path else name

    def below(self, name: str) -> "Location":
        """The folder `name` directly below, or this location where there is none."""
        return Location(self.store, self.join(name)) if name in self.folders else self

    def files(self, *suffixes: str) -> list[str]:
        """Paths of the file itself, or of all files below a folder with such a suffix.

        Raises:
            UsageError: There are none.
        """
        if self.is_file and suffix_of(self.path) in suffixes:
            return [self.path]
        state = self.join(EXPORT_STATE)
        found = sorted(
            one.path
            for one in self.store.list(self.path)
            if suffix_of(one.path) in suffixes and not one.path.startswith(f"{state}/")
        )
        if not found:
            raise UsageError(f"{self} holds no {' or '.join(suffixes)} files")
        return found

    def read(self, path: str) -> bytes:
        """The bytes of a file that `files` gave."""
        return self.store.read(path)

    def read_text(self, path: str) -> str:
        """The text of a file that `files` gave.

        Raises:
            UsageError: It is not UTF-8.
        """
        return decode_text(self.read(path), path)

    def read_or_none(self, name: str) -> bytes | None:
        """The bytes of a file below the folder; None where it is absent."""
        return self.store.read_or_none(self.join(name))

    def load_json(self, path: str) -> Any:
        """The document in a file that `files` gave.

        Raises:
            UsageError: It is not JSON.
        """
        try:
            return json.loads(self.read(path))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.name_of(path)} is not JSON: {error}") from error

    def name_of(self, path: str) -> str:
        """The name of a file in messages, for a path from `files`."""
        return str(self.store.uri_of(path))


def suffix_of(path: str) -> str:
    """The suffix of a path in lower case, with its dot."""
    return PurePosixPath(path).suffix.lower()


def decode_text(data: bytes, name: str) -> str:
    """UTF-8 text.

    Raises:
        UsageError: It is not.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8: {error}") from error


def describe(error: Exception) -> str:
    """The reason inside an exception that a malformed document caused."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error) or type(error).__name__
