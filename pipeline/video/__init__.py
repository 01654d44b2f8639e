"""Video truth: which frames a video has, and what they look like.

The contract, for files and image sequences alike:

* The stream is FFmpeg's best video stream; cover pictures are none.
* `index` counts displayed frames from 0 in presentation order (the decoder's), after edit lists, within the segment
  that start_s and end_s cut out: start_s <= time_s < end_s, with 0.6 ms of slack for timestamps that were rounded.
* `time_s` is the frame's presentation time minus that of the file's first frame, also under start_s. A timestamp that
  is missing or runs backward becomes its predecessor's plus one frame; such repairs are counted.
* A time picks the frame on screen then: the last one not later. Beyond the last frame's end it picks none.
* `rgb` is PyAV's `to_ndarray(format="rgb24")`, then mirrored and turned as the display matrix says. Interlaced frames
  stay as decoded, anamorphic pixels are not scaled, HDR is not tone-mapped, alpha is dropped. A frame that comes in
  another size than the file's first is scaled to that.
* A damaged packet is skipped and counted, decoding goes on. A file that ends early gives what it has and is flagged.
* Backward and random frames are those of forward, bit for bit.
* Images are a video too: JPEG and PNG files of one size in name order, numbers in names compared as numbers.

Two decisions stand behind this. Decoding is single-threaded, see `Decoder`: with frame threads FFmpeg loses frames of
damaged files without a word, so that labels would depend on the number of cores; videos are decoded side by side
instead. And it runs in the caller's process, where a crash of native code takes the worker down: the pool blames the
video, and tries it again with `isolate=True`, where a crash or hang is that video's own failure.
"""

from pipeline.video.failures import FAILURE_CLASSES
from pipeline.video.image_files import ImageFiles
from pipeline.video.info import Damage, Frame, OnDamaged, VideoInfo, VideoLimits
from pipeline.video.memory import keep_freed_memory
from pipeline.video.prefetch import Prefetch, prefetch
from pipeline.video.reader import VideoReader, open_video

__all__ = [
    "FAILURE_CLASSES",
    "Damage",
    "Frame",
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
