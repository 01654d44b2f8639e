"""Exceptions of this package. Each message says what is wrong, where, and what is allowed."""

from typing import ClassVar


class CorpusError(Exception):
    """Base of all errors of this package. `failure_class` is the class of a video's failure in quarantine."""

    failure_class: ClassVar[str] = "exception"


class UsageError(CorpusError):
    """A setting, manifest or limit that cannot be used: the run stops before any model is loaded (exit code 2)."""

    failure_class = "usage"


class ManifestError(UsageError):
    """A manifest that cannot be read, or rows in it that break a rule."""


class ModelError(UsageError):
    """A model that cannot be found or is not a SAM2 video model."""


class VideoError(CorpusError):
    """A video that cannot be decoded: not a video, no frames, beyond a limit."""

    failure_class = "decode"


class PromptError(CorpusError):
    """A prompt that does not fit its video: a frame beyond the end, a point outside the frame."""

    failure_class = "prompt"


class AfterEndError(PromptError):
    """A time after the last frame of its video."""


class RleError(CorpusError):
    """A run-length encoding that is malformed, or larger than allowed."""

    failure_class = "prompt"


class InterruptedLabelingError(CorpusError):
    """The worker was stopped; the video is pending again, with a checkpoint if it can have one."""

    failure_class = "interrupted"


class StorageError(CorpusError):
    """A URI cannot be read or written. Transient errors were already retried."""

    failure_class = "storage"
