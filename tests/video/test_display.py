"""From decoded to displayed pixels: RGB as PyAV's own, then turned, however the work is done."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from av.video.frame import VideoFrame

from pipeline.video.display import Orientation, RgbConverter, turns_before

ORIENTATIONS = [Orientation(*each) for each in product((False, True), repeat=3)]


def noise(pixels: str, width: int, height: int) -> VideoFrame:
    frame, random = VideoFrame(width, height, pixels), np.random.default_rng(width + height)
    for plane in frame.planes:
        values = np.frombuffer(random.bytes(plane.buffer_size), np.uint16 if "10" in pixels else np.uint8)
        plane.update((values & 1023 if "10" in pixels else values).tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "gbrp"])
@pytest.mark.parametrize("size", [(64, 48), (90, 34), (41, 30), (32, 27)])
def test_rgb_is_pyavs_then_turned(pixels: str, size: tuple[int, int]) -> None:
    frames = [noise(pixels, *size) for _ in range(2)]
    for orientation in ORIENTATIONS:
        convert = RgbConverter(orientation, size)
        for frame in frames:
            rgb = convert(frame)
            assert np.array_equal(rgb, orientation.apply(frame.to_ndarray(format="rgb24"))), orientation
            assert rgb.flags.c_contiguous
            assert rgb.flags.writeable


def test_frames_of_another_size_are_scaled_as_decoded_then_turned() -> None:
    sideways = Orientation(transposed=True, flip_x=True)
    convert, upright = RgbConverter(sideways, (64, 48)), RgbConverter(Orientation(), (64, 48))
    for frame in (noise("yuv420p", 64, 48), noise("yuv420p", 80, 48), noise("yuv444p", 64, 48)):
        assert np.array_equal(convert(frame), sideways.apply(upright(frame)))


def test_only_even_sides_of_halved_planes_are_turned_first() -> None:
    assert turns_before("yuv420p", 64, 48)
    assert not turns_before("yuv420p", 63, 48)
    assert not turns_before("yuv420p10le", 64, 48)
