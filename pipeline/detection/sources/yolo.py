"""YOLO label files as Ultralytics' save_txt writes them: class, coordinates, and at will confidence and track id."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pipeline.detection.sources.classes import Categories
from pipeline.detection.sources.pictures import PictureNames, VideoIds
from pipeline.detection.sources.reading import Videos
from pipeline.detection.sources.rows import BATCH_ROWS, Rows
from pipeline.detection.sources.yolo_lines import yolo_object
from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest.bad_rows import clip

File = tuple[str, str]
"""Name and text of a label file."""
ROUNDING_PX = 0.01
"""Added to points of polygons: six digits of 4/48 give 3.9999 pixels, which would be cut to 3."""
WHOLE = re.compile(r"\d+")


class Tails:
    """What follows the coordinates of a line, which all lines of a folder have alike.

    A box has 4 numbers, a polygon an even count of at least 6. One number more is a confidence or a track id, two more
    are both. Track ids are whole numbers at the end of every line; a confidence is at most 1.
    """

    def __init__(self) -> None:
        self._last: dict[int, set[str]] = {0: set(), 1: set()}
        """The last numbers of lines with an even and an odd count of numbers, as text."""

    def see(self, cells: list[str]) -> None:
        """Take a line's class and numbers into account."""
        numbers = cells[1:]
        if len(numbers) > 4:
            self._last[len(numbers) % 2].add(numbers[-1])

    def split(self, cells: list[str]) -> tuple[list[str], float | None, str | None]:
        """A line's class and coordinates, its confidence and its track id.

        Raises:
            ManifestError: The last number may be a confidence or a track id.
        """
        count = len(cells) - 1
        if count <= 4:
            return cells, None, None
        if count % 2:
            if self._are_tracks(1):
                return cells[:-1], None, cells[-1]
            return cells[:-1], _confidence(cells[-1]), None
        if self._are_tracks(0):
            return cells[:-2], _confidence(cells[-2]), cells[-1]
        return cells, None, None

    def _are_tracks(self, parity: int) -> bool:
        last = self._last[parity]
        if not all(WHOLE.fullmatch(each) for each in last):
            return False
        if any(int(each) > 1 for each in last):
            return True
        if parity == 1 and last == {"1"}:
            raise ManifestError(
                "the last number of every line is 1, which may be a confidence or a track id; save both with "
                "save_conf=True"
            )
        return parity == 0 and last == {"1"}


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ManifestError(f"the confidence {clip(text)} is no number") from None
    if not 0 <= value <= 1:
        raise ManifestError(f"{clip(text)} after the coordinates is no confidence from 0 to 1, and not every line ends "
                            "in a track id, a whole number")  # fmt: skip
    return value


def yolo_rows(
    files: Iterable[File],
    tails: Tails,
    names: PictureNames,
    ids: VideoIds,
    categories: Categories,
    videos: Videos,
) -> Iterator[Rows]:
    """The detections of label files; an empty file is a look that saw nothing."""
    rows = Rows()
    for name, text in files:
        video, frame = names.frame(name)
        video_id = ids.of(video)
        lines = [cells for line in text.splitlines() if (cells := line.split())]
        if not lines:
            rows.add(video_id, frame, (name, 0))
        for row, cells in enumerate(lines):
            if not videos.know(video_id):
                rows.add(video_id, frame, (name, row))
                continue
            try:
                _add(rows, video_id, frame, (name, row), cells, tails, categories, videos)
            except CorpusError as error:
                rows.refuse((name, row), "line", " ".join(cells), str(error), video_id=video_id)
        if len(rows) >= BATCH_ROWS:
            yield rows
            rows = Rows()
    yield rows


def _add(
    rows: Rows,
    video_id: str,
    frame: int,
    origin: tuple[str, int],
    cells: list[str],
    tails: Tails,
    categories: Categories,
    videos: Videos,
) -> None:
    coordinates, score, track_id = tails.split(cells)
    found = yolo_object(coordinates)
    if (size := videos.size_of(video_id)) is None:
        raise ManifestError("the size of the video is unknown; give --size, or a video that can be opened")
    if found.ring is not None:
        if len(found.ring) < 3:
            raise ManifestError(f"{len(found.ring)} points are no polygon; it needs at least 3")
        found = replace(found, ring=found.ring + ROUNDING_PX / np.array(size[::-1]))
    rows.add(
        video_id,
        frame,
        origin,
        box=found.pixels(size) if found.ring is None else None,
        mask=None if found.ring is None else (size, found.counts(size)),
        category=categories.of(found.kind),
        score=score,
        track_id=track_id,
    )
