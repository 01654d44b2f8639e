"""An export: chunks of videos become files and parts of documents; what a run before this one finished is left alone.

Each chunk ends with a small record under `_export/`, written last: its existence says that the chunk is done. Parts of
documents wait beside it, and are put together at the end by way of a local file, so that memory holds one chunk.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import NO_CATEGORY, Context, Document, Format, Piece, Section, VideoMasks
from pipeline.formats.rows import by_video
from pipeline.formats.selection import CHUNK_ROWS, Chunk, Selection, chunks
from pipeline.formats.sources import Problem
from pipeline.formats.split import Splits
from pipeline.storage import Store

log = logging.getLogger(__name__)

STATE = "_export"
FORMAT_VERSION = 1
"""Raised when what a format writes changes: unfinished exports begin anew."""
WRITERS = 8

WriteFrames = Callable[[VideoMasks, Format], Iterator[Piece]]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export did."""

    videos: int
    rows: int
    chunks: int
    chunks_done_before: int
    documents: int
    problems: tuple[Problem, ...]
    """Videos that the format cannot hold, left out."""


def export(
    selection: Selection,
    target: Store,
    name: str,
    form: Format,
    *,
    splits: Splits | None = None,
    tolerance: float = 0.0,
    labels: str = "",
    write_frames: WriteFrames | None = None,
    chunk_rows: int = CHUNK_ROWS,
    watch: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write what is selected in a format.

    Args:
        name: the format's name; a target holds one export.
        splits: shares of the videos that are held out.
        tolerance: pixels that polygons may leave the outline, where the format has polygons.
        labels: where the masks come from, for formats that say so.
        write_frames: gives the pictures of a video's selected frames too.
        watch: told how many videos of how many are done.

    Raises:
        UsageError: Nothing is selected, or the target holds another export.
    """
    videos = selection.counts()
    if not videos:
        raise UsageError("no mask is selected" + (f" by --where {selection.where!r}" if selection.where else ""))
    found = {category or NO_CATEGORY for category in selection.categories()}
    context = Context(
        categories=tuple(sorted(found)),
        splits=splits or Splits(),
        every=selection.every,
        tolerance=tolerance,
        labels=labels,
    )
    _claim(target, name, context)
    documents = list(form.documents(context))
    done = done_before = frames = rows = 0
    kept: list[_Record] = []
    problems: list[Problem] = []
    for chunk in chunks(videos, rows=chunk_rows):
        key = _key(chunk, name, context, frames, rows, with_frames=write_frames is not None)
        record = _Record.read(target, key)
        if record:
            done_before += 1
        else:
            record = _write_chunk(chunk, key, selection, target, form, context, frames, rows, write_frames)
        kept.append(record)
        problems += record.problems
        frames += sum(video.frames for video in chunk.videos)
        rows += chunk.rows
        done += len(chunk.videos)
        if watch:
            watch(done, len(videos))
    for document in documents:
        _assemble(document, kept, target)
    return Exported(
        videos=len(videos),
        rows=rows,
        chunks=len(kept),
        chunks_done_before=done_before,
        documents=len(documents),
        problems=tuple(problems),
    )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """A chunk that is done, and where its parts of documents are."""

    key: str
    parts: tuple[tuple[str, str, int, int], ...]
    """Document, section, and from where to where in the chunk's data."""
    problems: tuple[Problem, ...]

    @classmethod
    def read(cls, target: Store, key: str) -> "_Record | None":
        data = target.read_or_none(f"{STATE}/{key}.json")
        if data is None:
            return None
        found = json.loads(data)
        return cls(
            key=key,
            parts=tuple((path, section, start, stop) for path, section, start, stop in found["parts"]),
            problems=tuple(Problem(**problem) for problem in found["problems"]),
        )

    def write(self, target: Store) -> None:
        text = json.dumps({"parts": self.parts, "problems": [asdict(problem) for problem in self.problems]})
        target.put(f"{STATE}/{self.key}.json", text.encode())


def _claim(target: Store, name: str, context: Context) -> None:
    """Two exports in one place would leave a mixture of both."""
    said = {"format": name, "every": context.every, "tolerance": context.tolerance, "splits": context.splits.shares}
    mine = json.loads(json.dumps(said))
    path = f"{STATE}/export.json"
    if target.commit_once(path, json.dumps(said).encode()):
        return
    theirs = json.loads(target.read(path))
    if theirs != mine:
        differing = next(key for key in mine if theirs.get(key) != mine[key])
        raise UsageError(
            f"{target} holds an export with {differing} {theirs.get(differing)!r}, not {mine[differing]!r}; "
            "choose another place"
        )


def _key(chunk: Chunk, name: str, context: Context, frames: int, rows: int, *, with_frames: bool) -> str:
    said: list[Any] = [
        FORMAT_VERSION, name, context.categories, context.splits.shares, context.every, context.tolerance,
        context.labels, with_frames, frames, rows,
        [(video.video_id, video.rows, video.frames, video.label_key) for video in chunk.videos],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def _write_chunk(
    chunk: Chunk,
    key: str,
    selection: Selection,
    target: Store,
    form: Format,
    context: Context,
    frames: int,
    rows: int,
    write_frames: WriteFrames | None,
) -> _Record:
    added: dict[tuple[str, str], list[bytes]] = {}
    problems: list[Problem] = []

    def whole_files() -> Iterator[Piece]:
        for video in _videos(chunk, selection, context, frames, rows):
            parts: list[Piece] = []
            try:
                pieces = form.pieces(video, context)
                for piece in pieces if not write_frames else _chain(pieces, write_frames(video, form)):
                    if piece.section is None:
                        yield piece
                    else:
                        parts.append(piece)
            except CorpusError as error:
                problems.append(Problem(video_id=video.video_id, message=str(error)))
                continue
            for piece in parts:
                added.setdefault((piece.path, piece.section or ""), []).append(piece.data)

    _put_all(target, whole_files())
    separators = {
        (document.path, part.name): part.separator
        for document in form.documents(context)
        for part in document.parts
        if isinstance(part, Section)
    }
    data, parts = bytearray(), []
    for (path, section), pieces in added.items():
        start = len(data)
        data += separators[path, section].join(pieces)
        parts.append((path, section, start, len(data)))
    if parts:
        target.put(f"{STATE}/{key}.bin", bytes(data))
    record = _Record(key=key, parts=tuple(parts), problems=tuple(problems))
    record.write(target)
    return record


def _chain(first: Iterable[Piece], second: Iterable[Piece]) -> Iterator[Piece]:
    yield from first
    yield from second


def _videos(chunk: Chunk, selection: Selection, context: Context, frames: int, rows: int) -> Iterator[VideoMasks]:
    ids = [video.video_id for video in chunk.videos]
    facts = selection.videos(ids)
    tables = by_video(selection.read(ids))
    for number, video in enumerate(chunk.videos, start=chunk.first):
        yield VideoMasks(
            video_id=video.video_id,
            split=context.splits.of(video.video_id),
            rows=tables[video.video_id],
            facts=facts.get(video.video_id, {}),
            number=number,
            frames_before=frames,
            rows_before=rows,
        )
        frames += video.frames
        rows += video.rows


def _put_all(target: Store, pieces: Iterable[Piece]) -> None:
    """Files are small and many: several are on their way at once, and never more than a few wait."""
    with ThreadPoolExecutor(WRITERS) as pool:
        waiting = []
        for piece in pieces:
            waiting.append(pool.submit(target.put, piece.path, piece.data))
            if len(waiting) >= 4 * WRITERS:
                for future in waiting:
                    future.result()
                waiting = []
        for future in waiting:
            future.result()


def _assemble(document: Document, records: Sequence[_Record], target: Store) -> None:
    with tempfile.NamedTemporaryFile(prefix="sam2-corpus-export-") as file:
        for part in document.parts:
            if isinstance(part, bytes):
                file.write(part)
                continue
            first = True
            for record in records:
                for path, section, start, stop in record.parts:
                    if (path, section) == (document.path, part.name) and stop > start:
                        file.write(b"" if first else part.separator)
                        file.write(target.read_range(f"{STATE}/{record.key}.bin", start, stop))
                        first = False
        file.flush()
        target.put(document.path, Path(file.name))
