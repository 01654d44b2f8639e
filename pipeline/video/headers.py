"""Length of a video as its container's header gives it: nothing is decoded, and at most the header is read."""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

from pipeline.storage import Storage
from pipeline.video.container import VideoDecoder
from pipeline.video.content import open_content
from pipeline.video.image_files import is_image, read_zip
from pipeline.video.images import DEFAULT_FPS
from pipeline.video.info import VideoLimits
from pipeline.video.input_file import InputFile
from pipeline.video.recordings import split_topic

ZIP = b"PK\x03\x04"
LIMITS = VideoLimits(max_spool_bytes=1, stall_s=5.0)
"""A source that cannot seek is not copied to disk for its header."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """Frames of a video or segment and their rate, as a header claims them."""

    frames: float
    fps: float

    def within(self, start_s: float | None, end_s: float | None) -> "Length":
        """The length of the part between two times of the file."""
        duration = self.frames / self.fps
        start, end = max(start_s or 0.0, 0.0), duration if end_s is None else min(end_s, duration)
        return Length(frames=self.fps * max(end - start, 0.0), fps=self.fps)


def read_length(uri: str, *, storage: Storage | None = None, fps: float | None = None) -> Length | None:
    """The length of the whole video at a URI; None if no header gives it.

    Args:
        uri: a video file, a zip or a folder of images.
        storage: endpoints and credentials by URI prefix.
        fps: rate of images, 24 where None.

    Raises:
        StorageError: The content cannot be reached.
        VideoError: It is no video.
    """
    if split_topic(uri)[1] is not None:  # all its messages would have to be read
        return None
    content, _ = open_content(uri, storage or Storage())
    if isinstance(content, Mapping):
        return _images((name for name in content if "/" not in name), fps)
    with content, closing(InputFile(content, name=uri, max_spool_bytes=LIMITS.max_spool_bytes)) as file:
        if file.read(0, len(ZIP)) == ZIP:
            return _images(read_zip(file, LIMITS), fps)
        with closing(VideoDecoder(file, LIMITS)) as decoder:
            stream, duration_s = decoder.stream, decoder.duration_s
            rate = float(stream.average_rate or 0)
            frames = float(stream.frames) or rate * (duration_s or 0.0)
            if not frames:
                return None
            rate = rate or (frames / duration_s if duration_s else 0.0)
            return Length(frames=frames, fps=rate or DEFAULT_FPS)


def _images(names: Iterable[str], fps: float | None) -> Length:
    return Length(frames=sum(is_image(name) for name in names), fps=fps or DEFAULT_FPS)
