"""The fps of image sequences: for which sources it determines frames, and so is part of their label keys."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import VideoError
from pipeline.manifest.schema import Video
from pipeline.video import VideoReader

_VIDEO_SUFFIXES = (
    *("mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "m2v", "wmv", "asf"),
    *("flv", "ogv", "ogg", "mxf", "3gp", "3g2", "insv", "lrv", "gif", "mcap"),
)
_VIDEO_FILE = rf"(?i)\.(?:{'|'.join(_VIDEO_SUFFIXES)})(?:[?#]|$)"
"""URIs of video files, which have their own rate."""


def rate_of(video: Video) -> float | None:
    """The rate at which to open a video: its fps, but None where the URI ends like a video file's."""
    return None if re.search(_VIDEO_FILE, video.video_uri) else video.fps


def rates(uris: pa.ChunkedArray, fps: pa.ChunkedArray) -> pa.ChunkedArray:
    """`rate_of` for whole columns, float64: the fps that is part of each label key."""
    return pc.if_else(have_own_rate(uris), pa.scalar(None, pa.float64()), fps)


def have_own_rate(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each URI is named as a video file, and not as an image sequence."""
    return pc.match_substring_regex(uris, _VIDEO_FILE)


def check_rate(video: Video, reader: VideoReader) -> None:
    """Refuse images whose fps would be ignored because their URI ends like a video file's.

    Raises:
        VideoError: The video is an image sequence with an fps that is not in its label key.
    """
    if reader.info.container == "images" and rate_of(video) != video.fps:
        raise VideoError(
            f"{video.video_uri}: fps is {video.fps:g}, but this name of an image sequence ends like a video file's; "
            "end a folder's URI with a slash and name a zip .zip"
        )
