"""Video truth: which frames a video has, and what they look like.

The contract, for files and image sequences alike:

* The stream is FFmpeg's best video stream; cover pictures are none.
* `index` counts displayed frames from 0 in presentation order (the decoder's), after edit lists, within the segment
  that start_s and end_s cut out: start_s <= time_s < end_s, each with 1 ms of slack for rounded timestamps.
* `time_s` is the frame's presentation time minus that of the file's first frame, also under start_s. A timestamp that
  is missing or runs backward becomes its predecessor's plus one frame; such repairs are counted.
* A time picks the frame on screen then: the last one not later. Beyond the last frame's end it picks none.
* `rgb` is PyAV's `to_ndarray(format="rgb24")`, then mirrored and turned as the display matrix says. Interlaced frames
  stay as decoded, anamorphic pixels are not scaled, alpha is dropped. A frame that comes in another size than the
  file's first is scaled to that.
* A damaged packet is skipped and counted, decoding goes on. A file that ends early gives what it has and is flagged.
* Backward and random frames are those of forward, bit for bit.

Single-threaded decoding is deliberate: see `pipeline.video.container.Decoder`.
"""

from pathlib import Path
from typing import BinaryIO

from pipeline.video.failures import FAILURE_CLASSES
from pipeline.video.file import VideoFile
from pipeline.video.info import Damage, Frame, OnDamaged, VideoInfo, VideoLimits
from pipeline.video.prefetch import Prefetch, prefetch
from pipeline.video.source import Source

__all__ = [
    "FAILURE_CLASSES",
    "Damage",
    "Frame",
    "OnDamaged",
    "Prefetch",
    "VideoFile",
    "VideoInfo",
    "VideoLimits",
    "open_video",
    "prefetch",
]


def open_video(
    source: BinaryIO | Path,
    *,
    name: str,
    start_s: float | None = None,
    end_s: float | None = None,
    limits: VideoLimits | None = None,
    on_damaged: OnDamaged = "label",
) -> VideoFile:
    """Open a video and decode its first frame; a context manager. VideoError says why it cannot be labelled.

    `name` is how messages call it. A file object stays the caller's to close; one that cannot seek is copied to a
    temporary file without a name.
    """
    limits = limits or VideoLimits()
    opened = Source(source, name=name, max_spool_bytes=limits.max_spool_bytes)
    try:
        return VideoFile(opened, start_s=start_s, end_s=end_s, limits=limits, on_damaged=on_damaged)
    except BaseException:
        opened.close()
        raise
