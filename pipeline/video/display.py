"""From decoded to displayed pixels: the display matrix, and RGB as PyAV converts it."""

import functools
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.video.info import Rgb
from pipeline.video.side_data import display_matrix


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a rectangle: swap axes, then mirror left-right and top-bottom."""

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
        """Degrees clockwise, after mirroring left to right if `reflected`."""
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
    """The orientation that the frame's display matrix gives."""
    matrix = display_matrix(frame)
    return Orientation() if matrix is None else Orientation.from_matrix(matrix)


class RgbConverter:
    """`frame.to_ndarray(format="rgb24")`, rotated for display. Keeps PyAV's scaler, whose creation costs most time.

    FFmpeg rotates by quarter turns in half of numpy's time, and before the conversion to RGB (half the bytes) if that
    gives the same pixels.
    """

    def __init__(self, orientation: Orientation, size: tuple[int, int]) -> None:
        self._orientation = orientation
        self._width, self._height = size
        self._scaler = VideoReformatter()
        self._turners: dict[tuple[str, int, int], Graph] = {}

    def __call__(self, frame: VideoFrame) -> Rgb:
        if not self._orientation.transposed:
            return self._orientation.apply(cast(Rgb, self._convert(frame, self._width, self._height).to_ndarray()))
        kind = (frame.format.name, frame.width, frame.height)
        if kind[1:] == (self._width, self._height) and turns_before(*kind):
            rgb = self._convert(self._turn(frame), self._height, self._width)
        else:
            rgb = self._turn(self._convert(frame, self._width, self._height))
        return np.ascontiguousarray(cast(Rgb, rgb.to_ndarray()))

    def _convert(self, frame: VideoFrame, width: int, height: int) -> VideoFrame:
        return self._scaler.reformat(frame, width=width, height=height, format="rgb24", threads=1)

    def _turn(self, frame: VideoFrame) -> VideoFrame:
        kind = (frame.format.name, frame.width, frame.height)
        if kind not in self._turners:
            self._turners[kind] = turner(self._orientation, *kind)
        self._turners[kind].vpush(frame)
        return self._turners[kind].vpull()


def turner(orientation: Orientation, pixels: str, width: int, height: int) -> Graph:
    """FFmpeg's transposing filter for frames of one kind; returns one frame per frame."""
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=width, height=height, format=VideoFormat(pixels), time_base=Fraction(1, 1000))
    turn = graph.add("transpose", f"dir={orientation.flip_x + 2 * orientation.flip_y}")
    sink = graph.add("buffersink")
    source.link_to(turn)
    turn.link_to(sink)
    graph.configure()
    return graph


@functools.lru_cache(maxsize=64)
def turns_before(pixels: str, width: int, height: int) -> bool:
    """Whether turning before the conversion gives the same RGB as after it, tested on a frame of noise.

    FFmpeg converts planes of 4:2:0 in blocks, so it does if both sides are even. False for other formats, untested.
    """
    if pixels not in ("yuv420p", "yuvj420p") or width % 2 or height % 2:
        return False
    frame, random = VideoFrame(width, height, pixels), np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(random.bytes(plane.buffer_size))
    on_its_side = Orientation(transposed=True)
    graph, scaler = turner(on_its_side, pixels, width, height), VideoReformatter()
    graph.vpush(frame)
    turned = scaler.reformat(graph.vpull(), width=height, height=width, format="rgb24", threads=1)
    upright = scaler.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    return bool(np.array_equal(turned.to_ndarray(), on_its_side.apply(cast(Rgb, upright.to_ndarray()))))
