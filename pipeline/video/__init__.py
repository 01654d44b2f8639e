"""Which frames a video has, and what they look like: video files, zips and folders of images.

The contract, for files and image sequences alike:

* The stream is FFmpeg's best video stream; cover pictures are ignored.
* `index` counts displayed frames from 0 in presentation order (the decoder's), after edit lists, within the segment
  start_s <= time_s < end_s, with a tolerance of 0.6 ms for timestamps that were rounded.
* `time_s` is the frame's presentation time minus that of the file's first frame, also under start_s. A timestamp that
  is missing or runs backward becomes its predecessor's plus one frame; such repairs are counted.
* A time selects the frame on screen at that time: the last one that is not later. After the last frame's end it selects
  none.
* `rgb` is PyAV's `to_ndarray(format="rgb24")`, mirrored and rotated as the display matrix says. Interlaced frames stay
  as decoded, anamorphic pixels are not scaled, HDR is not tone-mapped, alpha is dropped. A frame of another size than
  the file's first is scaled to that size.
* A damaged packet is skipped and counted, and decoding continues. A truncated file gives the frames it has and is
  flagged.
* Backward and random access give the same pixels as a forward pass, bit for bit.
* JPEG and PNG images of one size are a video, too, in the order of the numbers in their names.

`content.open_uri` opens the video at a URI, `content.open_labelled` the video of a row of the videos table. Both call
`open_video`, which takes a path, a file object or images by name.

Decoding uses one thread (see `VideoDecoder`): with frame threads FFmpeg drops frames of damaged files without an error,
and labels would depend on the number of cores. Videos are decoded in parallel instead. Decoding runs in the caller's
process; when native code crashes there, the pool retries the video with `isolate=True`, where a crash or hang fails
that video alone.
"""

from pipeline.video.failures import FAILURE_CLASSES
from pipeline.video.grid import FrameGrid
from pipeline.video.image_files import ImageFiles
from pipeline.video.info import Damage, Frame, OnDamaged, VideoInfo, VideoLimits
from pipeline.video.memory import keep_freed_memory
from pipeline.video.prefetch import Prefetch, prefetch
from pipeline.video.reader import VideoReader, open_video

__all__ = [
    "FAILURE_CLASSES",
    "Damage",
    "Frame",
    "FrameGrid",
    "ImageFiles",
    "OnDamaged",
    "Prefetch",
    "VideoInfo",
    "VideoLimits",
    "VideoReader",
    "keep_freed_memory",
    "open_video",
    "prefetch",
]
