"""Image sequences as videos: JPEG and PNG files of one size, in name order, at a given rate."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

from PIL import Image

from pipeline.errors import AfterEndError, PromptError
from pipeline.video.failures import DamagedError, NoFramesError, TooLargeError
from pipeline.video.grid import FrameGrid
from pipeline.video.image_files import (
    FORMATS,
    ImageFiles,
    UnreadableImageError,
    exif_orientation,
    frame_names,
    image_errors,
    rgb_of,
)
from pipeline.video.info import TOLERANCE_S, Damage, Frame, OnDamaged, Rgb, Segment, VideoInfo, VideoLimits
from pipeline.video.looks import on_screen

DEFAULT_FPS = 24.0
"""Rate of SA-V and DAVIS."""


class ImageSequence:
    """See `pipeline.video` for the contract. An unreadable image repeats its predecessor, so that indices do not shift.

    RGB is Pillow's, as in the loaders that SA-V and DAVIS are evaluated with, turned by the EXIF orientation.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        name: str,
        fps: float,
        segment: Segment,
        limits: VideoLimits,
        on_damaged: OnDamaged,
        close: Callable[[], None] | None = None,
    ) -> None:
        if not fps > 0:
            raise ValueError(f"fps must be positive, not {fps}")
        self.name = name
        self._files, self._fps, self._limits, self._on_damaged = files, fps, limits, on_damaged
        self._close = close
        self._names = frame_names(files, name)
        self._damaged: set[int] = set()
        self._seen = 0
        times = [index / fps for index in range(len(self._names))]
        low, high = segment.bounds(TOLERANCE_S)
        within = [index for index, time in enumerate(times) if low <= time < high]
        if not within:
            raise NoFramesError(f"{name}: no image {segment}")
        if len(within) > limits.max_frames:
            raise TooLargeError(f"{name}: more than {limits.max_frames} images")
        self._first, self._count = within[0], len(within)
        try:
            rgb, self.info = self._probe()
        except UnreadableImageError as error:
            raise NoFramesError(f"{name}: the first image, {self._names[0]}, cannot be decoded: {error}") from error
        self._shape = rgb.shape

    @property
    def damage(self) -> Damage:
        return Damage(decoded_frames=self._seen, damaged_packets=len(self._damaged), complete=self._seen == self._count)

    def forward(self, start: int = 0, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        self._check(start)
        for index in range(start, self._count):
            if grid is None or grid.has(index, self._time):
                yield self._frame(index)
            self._seen = max(self._seen, index + 1)

    def backward(self, start: int, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        self._check(start)
        for index in range(start, -1, -1):
            if grid is None or grid.has(index, self._time):
                yield self._frame(index)

    def times(self, count: int) -> list[float]:
        return [self._time(index) for index in range(min(count, self._count))]

    def at(self, indices: Iterable[int]) -> dict[int, Frame]:
        wanted = sorted(set(indices))
        for index in wanted:
            self._check(index)
        return {index: self._frame(index) for index in wanted}

    def looks(self, step_s: float | None) -> Iterator[Frame]:
        if step_s is None:
            yield from self.forward()
            return
        indices = ((index, index) for index in range(self._count))
        for index, _ in on_screen(indices, lambda at: at / self._fps, step_s, TOLERANCE_S):
            yield self._frame(index)

    def index_at(self, times_s: Sequence[float]) -> list[int]:
        first, end = self._first / self._fps, (self._first + self._count) / self._fps
        for time_s in times_s:
            if not first - TOLERANCE_S <= time_s < end:
                raise (AfterEndError if time_s >= end else PromptError)(
                    f"{self.name}: no frame is on screen at {time_s:g} s; allowed are {first:g} to {end:g} s"
                )
        return [max(0, int((time_s + TOLERANCE_S) * self._fps) - self._first) for time_s in times_s]

    def close(self) -> None:
        if self._close is not None:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _time(self, index: int) -> float:
        return (self._first + index) / self._fps

    def _frame(self, index: int) -> Frame:
        self._seen = max(self._seen, index + 1)
        place = self._first + index
        while True:
            try:
                rgb = self._decode(place)
                break
            except UnreadableImageError as error:
                self._damaged.add(place)
                if self._on_damaged == "fail" or place == 0:
                    raise DamagedError(f"{self.name}: {self._names[place]} cannot be decoded: {error}") from error
                place -= 1
        if rgb.shape != self._shape:
            size = "{1} x {0}".format(*rgb.shape)
            raise DamagedError(
                f"{self.name}: {self._names[place]} has {size} pixels, "
                f"the first image {self._shape[1]} x {self._shape[0]}; all must be of one size"
            )
        return Frame(index, self._time(index), rgb)

    def _decode(self, place: int) -> Rgb:
        with image_errors(), self._open(place) as image:
            return exif_orientation(image).apply(rgb_of(image))

    def _open(self, place: int) -> Image.Image:
        name = f"{self.name}: {self._names[place]}"
        try:
            image = Image.open(io.BytesIO(self._files[self._names[place]]()), formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise TooLargeError(f"{name}: {error}") from error
        if image.width * image.height > self._limits.max_pixels:
            raise TooLargeError(f"{name}: {image.width} x {image.height}, more than {self._limits.max_pixels} pixels")
        return image

    def _probe(self) -> tuple[Rgb, VideoInfo]:
        with image_errors(), self._open(0) as image:
            mode, codec, orientation = image.mode, (image.format or "").lower(), exif_orientation(image)
        rgb = self._decode(0)
        return rgb, VideoInfo(
            width=rgb.shape[1],
            height=rgb.shape[0],
            rotation=orientation.rotation,
            reflected=orientation.reflected,
            sar=None,
            fps=self._fps,
            variable_rate=False,
            codec=codec,
            pix_fmt=mode.lower(),
            color_range="full",
            container="images",
            container_frames=len(self._names),
            duration_s=len(self._names) / self._fps,
            first_timestamp_s=0.0,
            video_streams=1,
            stream_index=0,
        )

    def _check(self, index: int) -> None:
        if index < 0:
            raise ValueError(f"frame index {index} is negative")
        if index >= self._count:
            raise PromptError(
                f"{self.name}: frame {index} is beyond the end; the video has frames 0 to {self._count - 1}"
            )
