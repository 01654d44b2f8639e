"""Names that sort by time: of runs, corrections and pins."""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

TIME = "%Y%m%dT%H%M%S.%fZ"
"""The first part of a name."""
NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}")


def next_name(names: Iterable[str], now: datetime) -> str:
    """A name that sorts after all `names`, also after those of a machine whose clock is ahead.

    Of two runs that want different labels of a video, publishing takes the one whose name sorts last.
    """
    newest = next((at for name in sorted(names, reverse=True) if (at := time_of(name))), None)
    at = max(now, newest + timedelta(microseconds=1)) if newest else now
    return f"{at:{TIME}}-{secrets.token_hex(2)}"


def time_of(name: str) -> datetime | None:
    """The time in a name; None for a name of another form."""
    try:
        return datetime.strptime(name.partition("-")[0], TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
