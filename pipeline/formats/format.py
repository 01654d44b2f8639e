"""What a format is: how a video's masks become files, and the parts of documents that many videos share."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from pipeline.formats.split import Splits
from pipeline.storage.paths import quote_id

NO_CATEGORY = "object"
"""The class of objects that have none."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all videos of an export share."""

    categories: tuple[str, ...]
    """Names of the classes; a format's number of a class is its place here."""
    splits: Splits = field(default_factory=Splits)
    every: int = 1
    """Only each so-manieth frame was selected."""
    tolerance: float = 0.0
    """How many pixels a polygon may leave the mask's outline."""
    labels: str = ""
    """Where the masks come from, for formats that say so."""

    def category(self, name: str | None) -> int:
        return self.categories.index(name or NO_CATEGORY)


@dataclass(frozen=True, kw_only=True)
class VideoMasks:
    """The selected masks of one video."""

    video_id: str
    split: str
    rows: pa.Table
    """Columns of the selection, by frame and object."""
    facts: Mapping[str, Any]
    """Its row of the videos table."""
    number: int
    """Its place among the selected videos, from 0."""
    frames_before: int
    """Selected frames of the videos before it: numbers of images go on from there."""
    rows_before: int

    @property
    def name(self) -> str:
        """The video's id as a file name."""
        return quote_id(self.video_id)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.rows.column("height")[0].as_py()), int(self.rows.column("width")[0].as_py())

    @property
    def frame_count(self) -> int:
        """Frames of the whole video as far as is known."""
        return int(self.facts.get("frames") or self.rows.column("frame_index")[-1].as_py() + 1)

    @property
    def fps(self) -> float:
        return float(self.facts.get("fps") or 0.0)

    def by_frame(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Frames in order, each with its rows."""
        frame, waiting = -1, list[dict[str, Any]]()
        for batch in self.rows.to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                if row["frame_index"] != frame:
                    if waiting:
                        yield frame, waiting
                    frame, waiting = row["frame_index"], []
                waiting.append(row)
        if waiting:
            yield frame, waiting

    def categories(self) -> dict[int, str]:
        """Names of its objects' classes, by object, in order of their ids."""
        pairs = self.rows.select(["object_id", "category"]).group_by(["object_id", "category"]).aggregate([])
        return {row["object_id"]: row["category"] or NO_CATEGORY for row in sorted(pairs.to_pylist(), key=_object_id)}


@dataclass(frozen=True)
class Section:
    """A place in a document that each video adds to."""

    name: str
    separator: bytes = b""


@dataclass(frozen=True)
class Document:
    """A file that many videos share."""

    path: str
    parts: tuple[bytes | Section, ...]


@dataclass(frozen=True)
class Piece:
    """A whole file, or what one video adds to a section of a document."""

    path: str
    data: bytes
    section: str | None = None


class Format(Protocol):
    """One way to write masks down."""

    def pieces(self, video: VideoMasks, context: Context, /) -> Iterable[Piece]:
        """What one video becomes."""

    def documents(self, context: Context, /) -> Iterable[Document]:
        """The files that videos share."""

    def image_path(self, video: VideoMasks, frame_index: int, /) -> str:
        """Where the format wants a frame's picture."""


def lines(path: str) -> Document:
    """A text file to which each video adds whole lines."""
    return Document(path, (Section("lines"),))


def _object_id(row: Mapping[str, Any]) -> int:
    return int(row["object_id"])
