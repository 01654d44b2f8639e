"""Files of an export in a folder that others may write to, too: only files that this export wrote are replaced.

A file is ours when a list below `_export/files/` holds its path with the digest of its bytes. Lists are written before
the files that they name, so that an interrupted export leaves no file that is in no list.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import UsageError
from pipeline.formats.format import Piece
from pipeline.formats.location import EXPORT_STATE
from pipeline.storage import Store

LISTS = f"{EXPORT_STATE}/files"
WRITERS = 8
"""Files that are written at the same time."""

READ_BYTES = 1 << 20


class ExportFiles:
    """Writes the files of one export."""

    def __init__(self, target: Store) -> None:
        self._target = target

    def check_empty(self) -> None:
        """
        Raises:
            UsageError: The folder holds foreign files; hidden ones do not count.
        """
        for entry in self._target.list():
            hidden = any(part.startswith(".") for part in entry.path.split("/"))
            if not hidden and not entry.path.startswith(f"{EXPORT_STATE}/"):
                raise UsageError(
                    f"{self._target} holds files that no export wrote, such as {entry.path}; choose an empty place"
                )

    def write_all(self, pieces: Iterator[Piece], *, key: str) -> None:
        """Write files, several at the same time, with few in memory.

        Args:
            key: identifies what is written, for the names of the lists.

        Raises:
            UsageError: A file that this export did not write is in the way.
        """
        with ThreadPoolExecutor(WRITERS) as pool:
            number = 0
            while batch := list(islice(pieces, 4 * WRITERS)):
                self._declare(f"{key}-{number:05}", {piece.path: _digest([piece.data]) for piece in batch})
                list(pool.map(self._write, batch))
                number += 1

    def write_document(self, path: str, file: Path) -> None:
        """Write a file that may be too large for memory.

        Raises:
            UsageError: A file that this export did not write is in the way.
        """
        with file.open("rb") as new:
            digest = _digest(_blocks(new))
        if self._target.exists(path):
            with self._target.open(path) as old:
                found = _digest(_blocks(old))
            if found == digest:
                return
            self._check_ours(path, found)
        self._declare(f"document-{digest}", {path: digest})
        self._target.put(path, file)

    def _write(self, piece: Piece) -> None:
        if self._target.commit_once(piece.path, piece.data):
            return
        found = self._target.read(piece.path)
        if found != piece.data:
            self._check_ours(piece.path, _digest([found]))
            self._target.put(piece.path, piece.data)

    def _declare(self, name: str, digests: Mapping[str, str]) -> None:
        self._target.put(f"{LISTS}/{name}.json", json.dumps(digests).encode())

    def _check_ours(self, path: str, digest: str) -> None:
        if (path, digest) not in self._listed:
            raise UsageError(
                f"{self._target.uri_of(path)} is not as this export wrote it, so it is not replaced; move it away, or "
                "export to another place"
            )

    @cached_property
    def _listed(self) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for entry in self._target.list(LISTS):
            found |= set(json.loads(self._target.read(entry.path)).items())
        return found


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()[:32]


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(READ_BYTES):
        yield block
