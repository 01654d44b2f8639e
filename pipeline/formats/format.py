"""The interface of formats: how masks of a video are written and read back."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.formats.location import Location
from pipeline.formats.prompts import PromptRequest, PromptRow, prompts_of_masks
from pipeline.formats.sources import FrameProtocol, MaskSource
from pipeline.formats.split import Splits
from pipeline.formats.video_masks import NO_CATEGORY, VideoMasks
from pipeline.storage import Storage


@dataclass(frozen=True, kw_only=True)
class ExportContext:
    """Settings that all videos of an export share."""

    categories: tuple[str, ...]
    """Class names; the number of a class is its position here."""
    splits: Splits = field(default_factory=Splits)
    filled_splits: tuple[str, ...] = ("train",)
    """Names of the splits that hold videos, in the order of `splits`."""
    every: int = 1
    """Frame stride of the selection."""
    tolerance: float = 0.0
    """Pixels that a polygon may deviate from the outline of the mask."""
    labels: str = ""
    """URI of the label output, for formats that record it."""
    storage: Storage | None = None
    """Endpoints and credentials, for formats that open videos."""

    def category(self, name: str | None) -> int:
        """The number of a class."""
        return self.categories.index(name or NO_CATEGORY)


@dataclass(frozen=True)
class Section:
    """A section of a document; each video adds items to it."""

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


class Format:
    """A format of another tool. Each subclass has its own file and a line in the registry."""

    name: ClassVar[str]
    """Name on the command line."""
    about: ClassVar[str]
    """One line of help."""
    default_stride: ClassVar[int] = 1
    """Stride of the frames that the format annotates."""
    has_polygons: ClassVar[bool] = False
    """Masks are written as polygons, so a tolerance applies."""
    numbers_file_frames: ClassVar[bool] = False
    """Frame numbers are those of the whole video file, also where only a segment of it was labelled. Other formats
    refer to pictures, which are named by the frame within the segment."""
    protocol: ClassVar[FrameProtocol] = "davis"
    """Which annotated frames count in benchmarks of this format."""

    def pieces(self, video: VideoMasks, context: ExportContext, /) -> Iterable[Piece]:
        """The files and document items of one video.

        Raises:
            CorpusError: The format cannot represent this video.
        """
        raise NotImplementedError

    def documents(self, _context: ExportContext, /) -> Iterable[Document]:
        """The files that videos share."""
        return ()

    def image_path(self, video: VideoMasks, frame_index: int, /) -> str:
        """Where the format expects the picture of a frame."""
        return f"images/{video.name}/{frame_index:06d}.jpg"

    def recognizes(self, _at: Location, /) -> bool:
        """Whether the files there look like this format."""
        return False

    def open_masks(self, _at: Location, /) -> MaskSource:
        """The masks there.

        Raises:
            UsageError: The files are not this format, or the format holds no masks.
        """
        raise UsageError(f"the format {self.name} holds no masks")

    def prompts(self, at: Location, request: PromptRequest, /) -> Iterable[PromptRow]:
        """The annotations there as prompts; by default masks."""
        return prompts_of_masks(self.open_masks(at), request)


def lines(path: str) -> Document:
    """A text file to which each video adds whole lines."""
    return Document(path, (Section("lines"),))
