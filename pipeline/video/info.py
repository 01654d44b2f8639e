"""Data classes of an open video: facts, damage, limits, segment and frame."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

OnDamaged = Literal["label", "fail"]
Rgb = npt.NDArray[np.uint8]
TOLERANCE_S = 6e-4
"""Tolerance when times are compared: many containers round theirs to the millisecond."""


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """Limits of one open video; beyond them it fails as TooLargeError or HangError."""

    max_pixels: int = 8192 * 8192
    """Largest frame, width x height, that is decoded at all."""
    max_frames: int = 2_000_000
    """Frames of one segment; about 18 hours at 30 a second."""
    max_spool_bytes: int = 64 << 30
    """Largest copy made of a source that cannot seek."""
    backward_bytes: int = 256 << 20
    """Decoded frames kept at once while going backward; a longer group of pictures is decoded again."""
    stall_s: float = 120.0
    """Longest time in the decoder without a frame."""

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_frames", "max_spool_bytes", "backward_bytes", "stall_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"VideoLimits.{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of a file to label: frames with start_s <= time_s < end_s."""

    start_s: float | None = None
    end_s: float | None = None

    def __post_init__(self) -> None:
        if self.start_s is not None and self.end_s is not None and not self.end_s > self.start_s:
            raise ValueError(f"end_s must be after start_s, not {self.end_s} after {self.start_s}")

    def bounds(self, tolerance_s: float) -> tuple[float, float]:
        """Lower bound (included) and upper bound (excluded) of times in the segment."""
        low = -math.inf if self.start_s is None else self.start_s - tolerance_s
        return low, math.inf if self.end_s is None else self.end_s - tolerance_s

    def __str__(self) -> str:
        return f"from {self.start_s or 0:g} s to {'the end' if self.end_s is None else f'{self.end_s:g} s'}"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts of one video, in displayed pixels; frame rates are measured once all frames were seen."""

    width: int
    """Displayed: after rotation, before any scaling for anamorphic pixels."""
    height: int
    rotation: int
    """Degrees clockwise that decoded frames are turned for display: 0, 90, 180, 270."""
    reflected: bool
    """Decoded frames are mirrored left to right (before they are turned) for display."""
    sar: tuple[int, int] | None
    """Sample aspect ratio of the coded frame, for the record; frames are never scaled by it."""
    fps: float | None
    """Average rate: the container's until the last frame was seen, then measured."""
    variable_rate: bool | None
    """Whether frame intervals differ by more than timestamps' rounding; None while unknown."""
    codec: str
    pix_fmt: str
    color_range: Literal["unspecified", "limited", "full"]
    container: str
    container_frames: int | None
    """Frames that the container claims for the whole file; None if it claims nothing."""
    duration_s: float | None
    """Duration that the container claims for the whole file; may be wrong."""
    first_timestamp_s: float | None
    """Timestamp of the file's first frame, which time_s is counted from."""
    video_streams: int
    stream_index: int


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What was lost in decoding so far; final once `complete`."""

    decoded_frames: int = 0
    """Displayed frames of the segment seen so far."""
    damaged_packets: int = 0
    """Packets that gave an error and no frame; images that could not be read and repeat their predecessor."""
    concealed_frames: int = 0
    """Frames with errors that the decoder concealed."""
    resized_frames: int = 0
    """Frames that came in another size than the first and were scaled to it."""
    repaired_times: int = 0
    """Frames whose timestamp was missing or ran backward."""
    truncated: bool = False
    """The file ends before what its own index or header promises."""
    complete: bool = False
    """The segment's last frame was reached."""

    @property
    def any(self) -> bool:
        """Whether pixels or frames are missing (repaired times lose nothing)."""
        return bool(self.damaged_packets or self.concealed_frames or self.truncated)


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One displayed frame."""

    index: int
    """From 0 within the segment, in presentation order."""
    time_s: float
    """Presentation time minus that of the file's first frame."""
    rgb: Rgb
    """(height, width, 3), turned for display."""
