"""Opening a video: a file, a zip of images or a folder of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from pipeline.video.file import VideoFile
from pipeline.video.grid import FrameGrid
from pipeline.video.image_files import ImageFiles, read_folder, read_zip
from pipeline.video.images import DEFAULT_FPS, ImageSequence
from pipeline.video.info import Damage, Frame, OnDamaged, Segment, VideoInfo, VideoLimits
from pipeline.video.input_file import InputFile
from pipeline.video.isolated import IsolatedVideo


class VideoReader(Protocol):
    """An open video: a file, an image sequence, or either in a separate process. See `pipeline.video`."""

    name: str

    @property
    def info(self) -> VideoInfo: ...
    @property
    def damage(self) -> Damage:
        """Damage in the frames decoded so far; final once `forward()` has ended."""

    def forward(self, start: int = 0, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        """Frames `start`, `start` + 1, ... to the end of the segment; only those of the grid, if there is one."""

    def backward(self, start: int, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        """Frames `start`, `start` - 1, ... 0, in memory bounded by `VideoLimits.backward_bytes`; see `forward`."""

    def times(self, count: int) -> list[float]:
        """Times of the first `count` frames, fewer where the video has fewer; decodes up to them."""

    def at(self, indices: Iterable[int]) -> dict[int, Frame]:
        """The frames with these indices. PromptError beyond the end."""

    def looks(self, step_s: float | None) -> Iterator[Frame]:
        """The frame on screen at the first frame's time, a step later and so on, each once; None: the key frames.

        Of a file's key frames the index is not known (looks.NO_INDEX), because nothing else is decoded; of images, all
        are key frames.
        """

    def index_at(self, times_s: Sequence[float]) -> list[int]:
        """The frame on screen at each time, counted from the file's first frame. PromptError where none is,
        AfterEndError after the last one."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...


def open_video(
    source: BinaryIO | Path | ImageFiles,
    *,
    name: str,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    limits: VideoLimits | None = None,
    on_damaged: OnDamaged = "label",
    isolate: bool = False,
) -> VideoReader:
    """Open a video and decode its first frame; a context manager.

    Args:
        source: A file object (the caller closes it; copied to an unnamed temporary file if it cannot seek), a
            path of a video, a zip of images or a folder of images, or images by name with how to read each.
        name: Name of the video in messages.
        start_s: Start of the segment, in seconds of the file.
        end_s: End of the segment.
        fps: Rate of images, 24 where None; video files have their own.
        limits: Largest frame, length and memory.
        on_damaged: "label" counts damage and continues, "fail" raises.
        isolate: Decode in a child process, so that a crash or hang of native code fails this video alone. Costs a
            copy of every frame and a process per pass.

    Raises:
        VideoError: The video cannot be decoded; `failure_class` says why, one of FAILURE_CLASSES.
        StorageError: The source cannot be read.
    """
    if on_damaged not in ("label", "fail"):
        raise ValueError(f"on_damaged must be label or fail, not {on_damaged!r}")
    limits, segment = limits or VideoLimits(), Segment(start_s=start_s, end_s=end_s)
    rate = DEFAULT_FPS if fps is None else fps
    if isinstance(source, Path) and source.is_dir():
        source = read_folder(source)
    if isinstance(source, Mapping):
        return ImageSequence(source, name=name, fps=rate, segment=segment, limits=limits, on_damaged=on_damaged)
    file = InputFile(source, name=name, max_spool_bytes=limits.max_spool_bytes, on_disk=isolate)
    try:
        if isolate:
            return IsolatedVideo(file, fps=fps, segment=segment, limits=limits, on_damaged=on_damaged)
        if file.read(0, 4) != b"PK\x03\x04":
            return VideoFile(file, segment=segment, limits=limits, on_damaged=on_damaged)
        return ImageSequence(
            read_zip(file, limits),
            name=name,
            fps=rate,
            segment=segment,
            limits=limits,
            on_damaged=on_damaged,
            close=file.close,
        )
    except BaseException:
        file.close()
        raise
