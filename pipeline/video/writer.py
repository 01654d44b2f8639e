"""Encoding of frames as H.264 in MP4, which players and browsers support."""

import math
import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
import numpy.typing as npt

from pipeline.video.failures import NoFramesError, pyav_errors

_TICKS = 90_000
"""A second in the MP4's time base."""
_MAX_SAMPLE_TICKS = 3600 * _TICKS
"""FFmpeg's MP4 writer fails at offsets of 2**31 ticks, and reordered frames may be several samples apart."""
MAX_GAP_S = 7 * 24 * 3600.0
WRITTEN_BY = "sam2-corpus"
"""The comment in the metadata of every film."""


def is_film_of_ours(path: Path) -> bool:
    """Whether a file is a film that a VideoWriter wrote."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment") == WRITTEN_BY
    except (OSError, ValueError, UnicodeDecodeError):  # av.FFmpegError is one of the first two
        return False


class VideoWriter:
    """Writes frames to a new MP4 file, which appears when it is complete, or not at all.

    Each frame is shown from its own time on. An odd side loses a pixel, and a side of one pixel is doubled.

    Args:
        path: The file to write; its folder is created.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
        fps: Nominal rate; the frames' times determine when they are shown.
        max_gap_s: Longest time that a frame is shown; later frames move forward by the rest.

    Raises:
        VideoError: The frames cannot be encoded, or there are none.
    """

    def __init__(self, path: Path, *, height: int, width: int, fps: float, max_gap_s: float = MAX_GAP_S) -> None:
        self._path, self._part = path, path.with_name(f".part-{uuid.uuid4().hex}")  # NAME.part may be of a downloader
        self._max_gap = round(max_gap_s * _TICKS)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._height, self._width = (max(side - side % 2, 2) for side in (height, width))
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
        self._container.metadata["comment"] = WRITTEN_BY
        with pyav_errors(path.name, f"frames of {width} x {height} cannot be encoded"):
            rate = Fraction(min(max(fps, 1.0), 1000.0)).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
            self._stream.height, self._stream.width = self._height, self._width
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._given = 0
        """Time of the last frame in ticks: as given, and as shown."""
        self._shown = -1
        self._last: npt.NDArray[np.uint8] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._last is None:
                    raise NoFramesError(f"{self._path.name}: no frames to write")
                with pyav_errors(self._path.name, "the film cannot be ended"):
                    self._container.mux(self._stream.encode())
            self._close()
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._close()
            self._part.unlink(missing_ok=True)

    def add(self, rgb: npt.NDArray[np.uint8], time_s: float) -> None:
        """Show the next frame, (H, W, 3), from `time_s` on, or from the next tick where that is not later."""
        given = round(time_s * _TICKS) if math.isfinite(time_s) else self._given
        if self._last is None:
            self._write(rgb, max(given, 0))
        else:
            at = self._shown + min(max(given - self._given, 1), self._max_gap)
            while at - self._shown > _MAX_SAMPLE_TICKS:
                self._write(self._last, self._shown + _MAX_SAMPLE_TICKS)
            self._write(rgb, at)
        self._given = max(given, self._given)

    def _write(self, rgb: npt.NDArray[np.uint8], at: int) -> None:
        fitting = rgb[: self._height, : self._width]
        short = (self._height - fitting.shape[0], self._width - fitting.shape[1])
        if any(short):
            fitting = np.pad(fitting, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
        with pyav_errors(self._path.name, f"the frame at {at / _TICKS:g} s cannot be encoded"):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(fitting), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, _TICKS)
            self._container.mux(self._stream.encode(frame))
        self._shown, self._last = at, rgb

    def _close(self) -> None:
        with pyav_errors(self._path.name, "the film cannot be ended"):
            self._container.close()
