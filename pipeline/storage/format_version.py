"""The format version of outputs, parts, tables and state files: newer ones are refused with a clear error."""

from pipeline.errors import UsageError

FORMAT = 2
"""Increase it when older releases would misread this one's files. 1: release 0.1.0, which does not write it."""


class NewerFormatError(UsageError):
    """A stored file has the format of a newer release."""


def check_format(stated: object, *, what: str) -> None:
    """Raise for a format that is newer than this release.

    Args:
        stated: the stored version: a number, its text or bytes; None (not stored) means 1.
        what: the file, for the message.

    Raises:
        NewerFormatError: It is newer than FORMAT, or not a number.
    """
    text = stated.decode(errors="replace") if isinstance(stated, bytes) else str(1 if stated is None else stated)
    if not text.isdecimal() or int(text) > FORMAT:
        raise NewerFormatError(
            f"{what} was made by a newer sam2-corpus: format {text}, this version reads up to {FORMAT}"
        )
