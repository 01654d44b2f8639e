"""Why a video cannot be decoded: one exception class per cause, so that quarantine counts by cause."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import CorpusError, VideoError


class NotAVideoError(VideoError):
    """Bytes that no allowed demuxer recognises, such as text, a playlist or a broken header."""

    failure_class = "not_a_video"


class NoVideoStreamError(VideoError):
    """A readable container without a video stream: sound only, a cover picture, only a header, or no images."""

    failure_class = "no_video_stream"


class NoFramesError(VideoError):
    """A video stream without a decodable frame in the segment."""

    failure_class = "no_frames"


class EncryptedError(VideoError):
    """A stream whose packets are encrypted (DRM)."""

    failure_class = "encrypted"


class UnknownCodecError(VideoError):
    """A stream that the installed FFmpeg has no decoder for."""

    failure_class = "unknown_codec"


class TooLargeError(VideoError):
    """A frame, file or number of frames beyond VideoLimits."""

    failure_class = "too_large"


class DamagedError(VideoError):
    """A damaged or truncated video under `on_damaged="fail"`."""

    failure_class = "damaged"


class HangError(VideoError):
    """A decoder that gave no frame within VideoLimits.stall_s."""

    failure_class = "hang"


class CrashError(VideoError):
    """A decoder that crashed its child process (isolate=True)."""

    failure_class = "crash"


FAILURE_CLASSES: frozenset[str] = frozenset(
    {VideoError.failure_class} | {error.failure_class for error in VideoError.__subclasses__()}
)
"""Every `failure_class` that opening or decoding can raise, beside "prompt" and "storage"."""


@contextmanager
def pyav_errors(name: str, what: str) -> Iterator[None]:
    """Raise a VideoError in place of PyAV's errors on unusual content, which may be of any class.

    ValueError for an enumeration that PyAV does not know, struct.error and OverflowError for broken numbers.
    CorpusError and MemoryError pass.
    """
    try:
        yield
    except (CorpusError, MemoryError):
        raise
    except Exception as error:
        raise VideoError(f"{name}: {what}: {type(error).__name__}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """FFmpeg's text of an error, without PyAV's numbers and log lines."""
    return str(getattr(error, "strerror", None) or error)
