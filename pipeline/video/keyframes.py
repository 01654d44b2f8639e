"""A few key frames of a video file, without decoding the frames between them."""

from contextlib import closing

import numpy as np

from pipeline.errors import VideoError
from pipeline.storage import Storage
from pipeline.video.container import VideoDecoder
from pipeline.video.content import open_file
from pipeline.video.info import Rgb, VideoLimits
from pipeline.video.input_file import InputFile


def key_frames(
    uri: str, count: int, *, start_s: float = 0.0, end_s: float | None = None, storage: Storage | None = None
) -> list[Rgb]:
    """The key frames at or before `count` moments that divide the video evenly, each (height, width, 3), as coded.

    Args:
        start_s: start of the part that is divided, in seconds of the file.
        end_s: end of that part.

    Raises:
        StorageError: The file cannot be read.
        VideoError: It is no video file, or has no frames.
    """
    limits = VideoLimits()
    with (
        open_file(uri, storage=storage)[0] as source,
        closing(InputFile(source, name=uri, max_spool_bytes=limits.max_spool_bytes)) as file,
        closing(VideoDecoder(file, limits)) as decoder,
    ):
        end = end_s if end_s is not None else decoder.duration_s or 0.0
        first = (decoder.stream.start_time or 0) * decoder.time_base
        frames = []
        for place in range(count):
            moment = start_s + max(0.0, end - start_s) * (place + 0.5) / count
            decoder.seek(int((first + moment) / decoder.time_base))
            if (frame := next(decoder.frames(from_key=True), None)) is not None:
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    if not frames:
        raise VideoError(f"{uri} has no key frame that can be decoded")
    return frames
