"""The frames of one segment as decoded so far: their times, and fingerprints that identify them."""

import zlib
from array import array
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

_SAMPLED_ROWS = 16
_MAX_STAMP = (1 << 63) - 1


class Clock:
    """Timestamps of one pass over frames in the decoder's order, which is the presentation order.

    A timestamp that is missing or runs backward (joined streams) becomes its predecessor's plus one frame, and later
    ones are shifted with it, so that times never run backward.
    """

    def __init__(self, *, step: int, zero: int, by_dts: bool) -> None:
        self._step, self._zero, self._by_dts = max(1, step), zero, by_dts
        self._previous: int | None = None
        self._shift = 0

    def stamp(self, frame: VideoFrame) -> int:
        stamp = timestamp(frame, self._by_dts)
        if stamp is None or (self._previous is not None and stamp + self._shift < self._previous):
            expected = self._zero if self._previous is None else self._previous + self._step
            if stamp is not None:
                self._shift = expected - stamp
            self._previous = min(expected, _MAX_STAMP)
        else:
            self._previous = min(stamp + self._shift, _MAX_STAMP)
        return self._previous


class Timeline:
    """Frames by index: timestamp and fingerprint (16 bytes), and the key frames that decoding can start from."""

    def __init__(self, *, time_base: Fraction, zero: int, step: int, by_dts: bool) -> None:
        self._time_base = time_base
        self._zero = zero
        self._step = max(1, step)
        self._by_dts = by_dts
        self._stamps = array("q")
        self._prints = array("L")
        self._keys: list[int] = []
        self.repaired = 0
        self.complete = False

    def __len__(self) -> int:
        return len(self._stamps)

    def append(self, stamp: int, frame: VideoFrame) -> None:
        repaired = stamp != timestamp(frame, self._by_dts)
        self.repaired += repaired
        # After a repaired timestamp, frames cannot be found by timestamp.
        if frame.key_frame and not self.repaired and (not self._stamps or stamp > self._stamps[-1]):
            self._keys.append(len(self._stamps))
        self._stamps.append(stamp)
        self._prints.append(fingerprint(frame))

    def matches(self, index: int, stamp: int, frame: VideoFrame) -> bool:
        return self._stamps[index] == stamp and self._prints[index] == fingerprint(frame)

    def stamp(self, index: int) -> int:
        return self._stamps[index]

    def time(self, index: int) -> float:
        return self.seconds(self._stamps[index])

    def seconds(self, stamp: int) -> float:
        return (stamp - self._zero) * self._time_base.numerator / self._time_base.denominator

    def key_at_or_before(self, index: int) -> int | None:
        """The last frame up to `index` that decoding can start from; None means the segment's beginning."""
        place = bisect_right(self._keys, index) - 1
        return self._keys[place] if place >= 0 and self._keys[place] > 0 else None

    def keys_between(self, low: int, high: int) -> list[int]:
        return self._keys[bisect_right(self._keys, low - 1) : bisect_right(self._keys, high)]

    def distrust(self, key: int) -> None:
        """Remove a key frame after which decoding gave other frames."""
        self._keys.remove(key)

    def distrust_all_but(self, stamp: int) -> None:
        """Remove all key frames except the one with this timestamp, because the format cannot seek."""
        self._keys = [key for key in self._keys if self._stamps[key] == stamp]

    def on_screen(self, time_s: float, tolerance_s: float) -> int | None:
        """The last frame at or before `time_s`, or the first if there is none; None after the end of the last frame."""
        if time_s >= self.time(len(self) - 1) + self.interval() + tolerance_s:
            return None
        limit = int((time_s + tolerance_s) / float(self._time_base)) + self._zero
        return max(0, bisect_right(self._stamps, limit) - 1)

    def interval(self) -> float:
        """Average seconds between frames; for a single frame, the container's interval."""
        if len(self) > 1 and self._stamps[-1] > self._stamps[0]:
            return (self.time(len(self) - 1) - self.time(0)) / (len(self) - 1)
        return float(self._step * self._time_base)

    def rate(self) -> tuple[float, bool] | None:
        """Average frames a second, and whether intervals differ by more than rounding (to the time base, to 1 ms)."""
        if len(self) < 2 or self._stamps[-1] == self._stamps[0]:
            return None
        gaps = np.diff(np.frombuffer(self._stamps, dtype=np.int64))
        slack = max(2.0, 0.002 / float(self._time_base))
        return 1.0 / self.interval(), bool(gaps.max() - gaps.min() > slack)


def timestamp(frame: VideoFrame, by_dts: bool) -> int | None:
    """In the stream's time base. `by_dts`: the file has decoding times only, and FFmpeg's presentation times are
    guesses (AVI)."""
    return frame.dts if by_dts or frame.pts is None else frame.pts


def fingerprint(frame: VideoFrame) -> int:
    """Checksum over some rows of the first decoded planes: cheap, and enough to tell a wrongly decoded frame."""
    value = 0
    for plane in frame.planes[:2]:
        if plane.line_size < 0:  # stored bottom up: PyAV's buffer would start at the last row
            continue
        if plane.line_size == 0:  # a palette
            value = zlib.crc32(memoryview(plane), value)
            continue
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(plane.height, plane.line_size)
        used = _row_bytes(frame.format.name, plane.width)
        value = zlib.crc32(rows[:: max(1, plane.height // _SAMPLED_ROWS), :used].tobytes(), value)
    return value


@lru_cache(maxsize=64)
def _row_bytes(pix_fmt: str, width: int) -> int:
    """Bytes of a plane's row that hold pixels (at least; the rest is padding, which differs from run to run)."""
    format_ = VideoFormat(pix_fmt, width, 1)
    if not format_.is_planar:
        return max(1, width * format_.padded_bits_per_pixel // 8)
    return width * (1 if format_.components[0].bits <= 8 else 2)
