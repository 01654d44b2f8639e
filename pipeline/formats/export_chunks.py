"""One chunk of an export: written once, then found by its record."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from pipeline.errors import CorpusError
from pipeline.formats.export_files import ExportFiles
from pipeline.formats.format import ExportContext, Format, Piece, Section
from pipeline.formats.frames import pictures
from pipeline.formats.location import EXPORT_STATE
from pipeline.formats.selection import Chunk, Selection
from pipeline.formats.sources import Problem
from pipeline.formats.video_masks import VideoMasks, read_videos
from pipeline.storage import Store

FORMAT_VERSION = 2
"""Increase it when a format's output changes: chunks of earlier versions are then written again."""


@dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """A completed chunk, and where its parts of documents are."""

    key: str
    parts: tuple[tuple[str, str, int, int], ...]
    """Document, section, and the range of bytes in the data of the chunk."""
    problems: tuple[Problem, ...]

    @property
    def data_path(self) -> str:
        """Where the parts of documents are."""
        return f"{EXPORT_STATE}/{self.key}.bin"

    @classmethod
    def read(cls, target: Store, key: str) -> "ChunkRecord | None":
        """The record of a chunk; None where it is not complete."""
        data = target.read_or_none(f"{EXPORT_STATE}/{key}.json")
        if data is None:
            return None
        found = json.loads(data)
        return cls(
            key=key,
            parts=tuple((path, section, start, stop) for path, section, start, stop in found["parts"]),
            problems=tuple(Problem(**problem) for problem in found["problems"]),
        )

    def write(self, target: Store) -> None:
        """Declare the chunk complete."""
        text = json.dumps({"parts": self.parts, "problems": [asdict(problem) for problem in self.problems]})
        target.put(f"{EXPORT_STATE}/{self.key}.json", text.encode())


@dataclass(frozen=True, kw_only=True)
class ChunkWriter:
    """Writes chunks of one export."""

    selection: Selection
    target: Store
    files: ExportFiles
    form: Format
    context: ExportContext
    with_pictures: bool = False

    def completed(self, chunk: Chunk) -> ChunkRecord | None:
        """The record of a chunk that was written before from the same labels; None where there is none."""
        return ChunkRecord.read(self.target, self._key(chunk))

    def write(self, chunk: Chunk) -> ChunkRecord:
        """Write the files of a chunk and its parts of documents, then its record."""
        added: dict[tuple[str, str], list[bytes]] = {}
        problems: list[Problem] = []
        self.files.write_all(self._whole_files(chunk, added, problems), key=self._key(chunk))
        separators = {
            (document.path, part.name): part.separator
            for document in self.form.documents(self.context)
            for part in document.parts
            if isinstance(part, Section)
        }
        data, parts = bytearray(), []
        for (path, section), pieces in added.items():
            start = len(data)
            data += separators[path, section].join(pieces)
            parts.append((path, section, start, len(data)))
        record = ChunkRecord(key=self._key(chunk), parts=tuple(parts), problems=tuple(problems))
        if parts:
            self.target.put(record.data_path, bytes(data))
        record.write(self.target)
        return record

    def _whole_files(
        self, chunk: Chunk, added: dict[tuple[str, str], list[bytes]], problems: list[Problem]
    ) -> Iterator[Piece]:
        """The files of each video; collects what its videos add to documents, and the videos that fail."""
        for video in read_videos(self.selection, chunk, self.context.splits):
            parts: list[Piece] = []
            try:
                for piece in self._pieces(video):
                    if piece.section is None:
                        yield piece
                    else:
                        parts.append(piece)
            except CorpusError as error:
                problems.append(Problem(video_id=video.video_id, message=str(error)))
                continue
            for piece in parts:
                added.setdefault((piece.path, piece.section or ""), []).append(piece.data)

    def _pieces(self, video: VideoMasks) -> Iterable[Piece]:
        shown = pictures(video, self.form, storage=self.context.storage) if self.with_pictures else ()
        return chain(self.form.pieces(video, self.context), shown)

    def _key(self, chunk: Chunk) -> str:
        """A digest of everything that determines the files of a chunk."""
        context = self.context
        determining: list[Any] = [
            FORMAT_VERSION, self.form.name, context.categories, context.splits.shares, context.every, context.tolerance,
            context.labels, self.with_pictures, chunk.frames_before, chunk.rows_before,
            [(video.video_id, video.rows, video.frames, video.label_key) for video in chunk.videos],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(determining).encode()).hexdigest()[:32]
