"""MOTS' text files: a line for each frame and object, where masks of one frame must not overlap."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.format import Document, ExportContext, Format, Piece, lines
from pipeline.formats.location import Location, decode_text
from pipeline.formats.png_files import paint
from pipeline.formats.rows import RowBuilder
from pipeline.formats.sources import FileMasks, MaskSource, file_of_each_video
from pipeline.formats.video_masks import VideoMasks
from pipeline.masks import rle
from pipeline.storage.paths import unquote_id

PER_CLASS = 1000
"""The id of a track is the number of its class times 1000, plus the id of the object."""

IGNORED_CLASS = 10
"""The class number of regions that are not evaluated."""

FOLDER = "instances_txt"


class MotsFormat(Format):
    """`instances_txt/VIDEO.txt`: frame, track, class, height, width, RLE; the smaller of two that overlap is on top.

    Classes are numbered from 1 in the order of `classes.txt`, leaving out 10. Objects beyond 999 or below 0 are
    renumbered in the order of their ids.
    """

    name = "mots"
    about = "MOTS text files; where objects overlap, the smaller is on top"

    def pieces(self, video: VideoMasks, context: ExportContext) -> Iterator[Piece]:
        height, width = video.size
        classes = {one: _class_number(context.category(name)) for one, name in video.categories().items()}
        if len(classes) > PER_CLASS:
            raise UsageError(f"{len(classes)} objects in one video; MOTS numbers at most {PER_CLASS}")
        fits = all(0 <= one < PER_CLASS for one in classes)
        number = {one: one if fits else at for at, one in enumerate(classes)}
        written = []
        for frame, rows in video.by_frame():
            seen = [row for row in rows if row["area"] > 0]
            strings = without_overlap([row["counts"] for row in seen], (height, width))
            for row, counts in zip(seen, strings, strict=True):
                if counts is not None:
                    kind = classes[row["object_id"]]
                    track = PER_CLASS * kind + number[row["object_id"]]
                    written.append(f"{frame} {track} {kind} {height} {width} {counts}\n")
        yield Piece(f"{FOLDER}/{video.name}.txt", "".join(written).encode())
        last = max(video.frame_count - 1, 0)
        yield Piece(f"seqmaps/{video.split}.seqmap", f"{video.name} empty 000000 {last:06d}\n".encode(), "lines")

    def documents(self, context: ExportContext) -> Iterable[Document]:
        yield from (lines(f"seqmaps/{name}.seqmap") for name in context.filled_splits)
        numbered = (f"{_class_number(at)} {name}\n" for at, name in enumerate(context.categories))
        yield Document("classes.txt", ("".join(numbered).encode(),))

    def recognizes(self, at: Location) -> bool:
        return FOLDER in at.folders

    def open_masks(self, at: Location) -> MaskSource:
        files = at.below(FOLDER).files(".txt")
        paths = file_of_each_video((unquote_id(PurePosixPath(path).stem), path) for path in files)
        said = at.read_or_none("classes.txt")
        classes = read_classes(decode_text(said, "classes.txt")) if said else {}

        def read_video(video_id: str) -> pa.Table:
            path = paths[video_id]
            return read_mots(at.read_text(path), video_id, classes=classes, name=at.name_of(path))

        return FileMasks(paths, read_video, self.name, self.protocol)


def without_overlap(counts: Sequence[str], size: tuple[int, int]) -> list[str | None]:
    """The masks with each pixel assigned to the smallest mask that holds it; None where no pixel is left."""
    if len(counts) < 2:
        return list(counts)
    if len(counts) > 255:
        raise UsageError(f"{len(counts)} objects in one frame; at most 255 are allowed")
    canvas = paint(counts, range(1, len(counts) + 1), size)
    left = np.bincount(canvas.reshape(-1), minlength=len(counts) + 1)[1:].tolist()
    return [
        one if rle.area(one) == area else rle.encode((canvas == value)[None])[0] if area else None
        for value, (one, area) in enumerate(zip(counts, left, strict=True), start=1)
    ]


def read_mots(text: str, video_id: str, *, classes: dict[int, str] | None = None, name: str = "MOTS file") -> pa.Table:
    """MASK_ROWS of the file of one video, without regions that are not evaluated.

    Raises:
        UsageError: A line is malformed.
    """
    rows = RowBuilder()
    for at, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            frame, track, kind, height, width, counts = line.split()
            if int(kind) == IGNORED_CLASS:
                continue
            object_id = int(track) - PER_CLASS * int(kind) if int(track) // PER_CLASS == int(kind) else int(track)
            size = rle.check_size((int(height), int(width)))
            rows.add(video_id, object_id, int(frame), size, counts, (classes or {}).get(int(kind)))
        except (ValueError, OverflowError, CorpusError) as error:
            raise UsageError(
                f"{name}, line {at}: {line[:60]!r} is not 'frame track class height width RLE': {error}"
            ) from error
    try:
        return rows.table()
    except (pa.ArrowException, OverflowError) as error:
        raise UsageError(f"{name}: a number is out of range: {error}") from error


def read_classes(text: str) -> dict[int, str]:
    """Class names by number."""
    found = {}
    for line in text.splitlines():
        number, _, name = line.partition(" ")
        if number.isdigit() and name:
            found[int(number)] = name
    return found


def _class_number(at: int) -> int:
    return at + 1 if at + 1 < IGNORED_CLASS else at + 2
