"""MOTChallenge text files: frame, id, left, top, width, height, confidence, and at will class and more, by commas."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from pipeline.detection.sources.classes import Categories
from pipeline.detection.sources.pictures import VideoIds
from pipeline.detection.sources.rows import BATCH_ROWS, Rows
from pipeline.errors import ManifestError
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX

FIRST_FRAME = 1
"""The format counts frames from 1."""
NO_VIDEO = ("det", "gt")
"""Names of files and folders inside that of a sequence: VIDEO/det/det.txt."""


def video_name(path: str) -> str:
    """The sequence of a file: VIDEO.txt, VIDEO/det/det.txt or VIDEO/gt/gt.txt."""
    file = PurePosixPath(path.replace("\\", "/"))
    parts = [part for part in (*file.parent.parts, file.stem) if part not in NO_VIDEO]
    return parts[-1] if parts else file.stem


def mot_rows(
    files: Iterable[tuple[str, str]], ids: VideoIds, categories: Categories, *, first_frame: int | None = None
) -> Iterator[Rows]:
    """The detections of files, given by name and text. An id below 0 is none, and so is a confidence below 0.

    The class is read only where names of classes are given, as some tools write other values in its place.
    """
    rows = Rows()
    first = FIRST_FRAME if first_frame is None else first_frame
    for name, text in files:
        video_id = ids.of(video_name(name))
        if not text.strip():  # the detector saw nothing
            rows.add(video_id, 0, (name, 0))
        for row, line in enumerate(text.splitlines()):
            if not line.strip():
                continue
            try:
                _add(rows, video_id, (name, row), line.split(","), categories, first)
            except ManifestError as error:
                rows.refuse((name, row), "line", line, str(error), video_id=video_id)
            if len(rows) >= BATCH_ROWS:
                yield rows
                rows = Rows()
    yield rows


def _add(
    rows: Rows, video_id: str, origin: tuple[str, int], cells: list[str], categories: Categories, first: int
) -> None:
    try:
        values = [float(cell) for cell in cells]
    except ValueError as error:
        raise ManifestError(f"must be numbers separated by commas: {error}") from None
    if len(values) < 6:
        raise ManifestError(f"{len(values)} numbers; needed are frame, id, left, top, width and height")
    number, identity, left, top, width, height, *rest = values
    if not (number.is_integer() and first <= number <= MAX_FRAME_INDEX):
        raise ManifestError(f"the frame is {cells[0].strip()}; allowed are whole numbers from {first} (--first-frame)")
    if not identity.is_integer():
        raise ManifestError(f"the id is {cells[1].strip()}; allowed are whole numbers, -1 for none")
    category = categories.of(rest[1]) if categories.names and len(rest) > 1 and rest[1] >= 0 else None
    rows.add(
        video_id,
        int(number) - first,
        origin,
        box=(left, top, left + width, top + height),
        category=category,
        score=rest[0] if rest and rest[0] >= 0 else None,
        track_id=str(int(identity)) if identity >= 0 else None,
    )
