"""The format version of outputs, parts, tables and state files: newer ones are refused with a clear error."""

from pipeline.errors import UsageError

FORMAT = 2
"""Raised when an older release would misread what this one writes. 1: release 0.1.0, which does not state it."""


class NewerFormatError(UsageError):
    """What is stored was made by a newer release, whose format this one does not know."""


def check_format(stated: object, *, what: str) -> None:
    """Refuse a format that this release does not know.

    Args:
        stated: the version as stored: a number, its text or bytes; None, where it is not stated, means 1.
        what: what states it, for the message.

    Raises:
        NewerFormatError: It is newer than FORMAT, or not a number.
    """
    text = stated.decode(errors="replace") if isinstance(stated, bytes) else str(1 if stated is None else stated)
    if not text.isdecimal() or int(text) > FORMAT:
        raise NewerFormatError(
            f"{what} was made by a newer sam2-corpus: format {text}, this version reads up to {FORMAT}"
        )
