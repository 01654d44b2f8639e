"""Why a video cannot be labelled: one class per cause, so that a quarantine can be counted by cause."""

from pipeline.errors import VideoError


class NotAVideoError(VideoError):
    """Bytes that no allowed demuxer recognises: a text, a playlist, a broken header."""

    failure_class = "not_a_video"


class NoVideoStreamError(VideoError):
    """A readable container without a picture track: sound only, a cover picture, a bare header."""

    failure_class = "no_video_stream"


class NoFramesError(VideoError):
    """A video stream of which not one frame can be decoded, or none in the wanted segment."""

    failure_class = "no_frames"


class EncryptedError(VideoError):
    """A stream whose packets are encrypted (DRM)."""

    failure_class = "encrypted"


class UnknownCodecError(VideoError):
    """A stream that the installed FFmpeg has no decoder for."""

    failure_class = "unknown_codec"


class TooLargeError(VideoError):
    """A frame, file or length beyond the stated limits."""

    failure_class = "too_large"


class DamagedError(VideoError):
    """A damaged or truncated video under `on_damaged="fail"`."""

    failure_class = "damaged"


class HangError(VideoError):
    """A decoder that gave no frame within the stated time."""

    failure_class = "hang"


class CrashError(VideoError):
    """A decoder that killed its own process, which was a child kept for that case."""

    failure_class = "crash"


FAILURE_CLASSES: frozenset[str] = frozenset(
    {VideoError.failure_class} | {error.failure_class for error in VideoError.__subclasses__()}
)
"""Every `failure_class` that opening or decoding can raise, beside "prompt" and "storage"."""
