"""Shell patterns for paths below a store."""

import re

from fsspec.utils import glob_translate

from pipeline.errors import UsageError


def glob_regex(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression: *, ? and [abc] match within one folder, ** matches any number of folders.

    Raises:
        UsageError: ** is only a part of a folder's name.
    """
    try:
        return re.compile(glob_translate(pattern))
    except ValueError as error:
        raise UsageError(f"{pattern!r} is no pattern: {error}; * and ? stay within one folder") from None
