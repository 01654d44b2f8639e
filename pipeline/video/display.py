"""From decoded to displayed pixels: the display matrix, and RGB as PyAV converts it."""

import struct
from dataclasses import dataclass
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.info import Rgb


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a rectangle: swap axes, then mirror left-right and top-bottom."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> "Orientation":
        """FFmpeg's display matrix: x' = a x + c y, y' = b x + d y. Other angles go to the nearest quarter turn."""
        a, b, _, c, d = struct.unpack("=5i", matrix[:20])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def reflected(self) -> bool:
        return self.transposed ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise, after mirroring left to right where `reflected`."""
        if not self.transposed:
            return 180 if self.flip_y else 0
        return 270 if self.flip_y != self.reflected else 90

    def size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.transposed else (width, height)

    def apply(self, image: Rgb) -> Rgb:
        if self == Orientation():
            return np.ascontiguousarray(image)
        pixels = np.ascontiguousarray(image).view("V3")[:, :, 0]  # whole pixels are moved in half the time of bytes
        laid = (pixels.T if self.transposed else pixels)[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(laid).view(np.uint8).reshape(*laid.shape, 3)


EXIF_ORIENTATIONS = {
    1: Orientation(),
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, flip_x=True),
    7: Orientation(transposed=True, flip_x=True, flip_y=True),
    8: Orientation(transposed=True, flip_y=True),
}


def orientation_of(frame: VideoFrame) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_matrix(bytes(cast(Buffer, matrix)))


class RgbConverter:
    """`frame.to_ndarray(format="rgb24")`, turned for display. Keeps its scaler, which is what takes PyAV most time."""

    def __init__(self, orientation: Orientation, size: tuple[int, int]) -> None:
        self._orientation = orientation
        self._width, self._height = size
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Rgb:
        rgb = self._scaler.reformat(frame, width=self._width, height=self._height, format="rgb24", threads=1)
        return self._orientation.apply(cast(Rgb, rgb.to_ndarray()))
