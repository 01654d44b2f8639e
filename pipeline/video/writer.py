"""Encoding frames as H.264 in MP4, which every player and browser shows."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import numpy.typing as npt


class VideoWriter:
    """Frames into a new MP4 file, which appears whole at the end or not at all; odd sides lose a pixel.

    Times may be uneven: each frame is shown at its own.
    """

    def __init__(self, path: Path, *, height: int, width: int, fps: float) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._part), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        self._height, self._width = height - height % 2, width - width % 2
        self._stream.height, self._stream.width = self._height, self._width
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, 90_000)
        self._last = -1

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def add(self, rgb: npt.NDArray[np.uint8], time_s: float) -> None:
        """The next frame, (H, W, 3), shown from `time_s` on."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[: self._height, : self._width]), format="rgb24")
        self._last = max(round(time_s * 90_000), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, 90_000)
        self._container.mux(self._stream.encode(frame))
