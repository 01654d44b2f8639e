"""Sizes of frames whose annotations do not give them: those of pictures or videos."""

from collections.abc import Callable
from functools import cached_property
from pathlib import PurePosixPath

from PIL import Image

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.location import Location, suffix_of
from pipeline.storage import Storage
from pipeline.storage.paths import unquote_id
from pipeline.video.content import open_uri
from pipeline.video.image_files import exif_orientation

Size = tuple[int, int]
"""Height and width."""

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")


class FrameSizes:
    """The size of each video's frames, which are all of one size.

    The first of these that exists is used: a picture of a label file (beside it, or below `images/` if the label file
    is below `labels/`, as Ultralytics finds it); a video file named by the video id; the result of `size_of`.
    """

    def __init__(self, at: Location, size_of: Callable[[str], Size | None] | None = None) -> None:
        self._at, self._size_of = at, size_of
        self._known: dict[str, Size] = {}

    def of(self, video_id: str, label_path: str) -> Size:
        """Height and width of the frames of a video.

        Args:
            label_path: the file that annotates a frame of the video.

        Raises:
            UsageError: The size is unknown, or its picture or video cannot be read.
        """
        if video_id not in self._known:
            self._known[video_id] = self._find(video_id, label_path)
        return self._known[video_id]

    def _find(self, video_id: str, label_path: str) -> Size:
        picture = next((self._pictures[one] for one in _picture_stems(label_path) if one in self._pictures), None)
        if picture is not None:
            return self._picture_size(picture)
        if video_id in self._videos:
            return video_size(self._at.name_of(self._videos[video_id]), storage=self._at.store.storage)
        if self._size_of and (found := self._size_of(video_id)):
            return found
        raise UsageError(
            f"{self._at.name_of(label_path)}: the size of video {video_id!r} is unknown; put its pictures or its video "
            "beside the labels, or give --size"
        )

    def _picture_size(self, path: str) -> Size:
        try:
            with self._at.store.open(path) as file, Image.open(file) as image:
                turned = exif_orientation(image).transposed
                return (image.width, image.height) if turned else (image.height, image.width)
        except CorpusError:
            raise
        except Exception as error:  # Pillow raises errors of many classes
            raise UsageError(f"{self._at.name_of(path)} cannot be read as an image: {error}") from error

    @cached_property
    def _listed(self) -> list[str]:
        folder = str(PurePosixPath(self._at.path).parent) if self._at.is_file else self._at.path
        return [one.path for one in self._at.store.list("" if folder == "." else folder)]

    @cached_property
    def _pictures(self) -> dict[str, str]:
        return {path.rpartition(".")[0]: path for path in self._listed if suffix_of(path) in PICTURES}

    @cached_property
    def _videos(self) -> dict[str, str]:
        paths = {PurePosixPath(path).stem: path for path in self._listed if suffix_of(path) in VIDEOS}
        return {unquote_id(stem): path for stem, path in paths.items()} | paths


def video_size(uri: str, *, storage: Storage | None = None) -> Size:
    """Height and width of the displayed frames of a video.

    Raises:
        UsageError: It cannot be opened.
    """
    try:
        with open_uri(uri, storage=storage) as (reader, _):
            return reader.info.height, reader.info.width
    except CorpusError as error:
        raise UsageError(f"the size of frames cannot be read from a video: {error}") from error


def _picture_stems(label_path: str) -> list[str]:
    """Paths without suffix where the picture of a label file may be."""
    stem = label_path.rpartition(".")[0]
    parts = stem.split("/")
    if "labels" not in parts[:-1]:
        return [stem]
    last = len(parts) - 2 - parts[:-1][::-1].index("labels")
    return ["/".join((*parts[:last], "images", *parts[last + 1 :])), stem]
