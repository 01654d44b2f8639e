"""Nights and stop times. Pure: the time is an argument."""

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.errors import UsageError

NOON = time(12)


def night_of(now: datetime, zone: ZoneInfo) -> str:
    """The name of the night of `now`: a night lasts from noon to noon and has the date of its evening.

    So a run at one in the morning continues the night of the evening before.
    """
    local = now.astimezone(zone)
    return str(local.date() if local.time() >= NOON else local.date() - timedelta(days=1))


def check_night(night: str) -> str:
    """Return `night`; raise a UsageError unless it is a date."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", night):
            date.fromisoformat(night)
            return night
    except ValueError:
        pass
    raise UsageError(f"night is {night!r}; it must be the date of the evening it begins on, as 2026-11-22")


def stop_time(night: str, at: str, zone: ZoneInfo) -> datetime:
    """When this night stops: the first time after its noon at which clocks show `at`.

    It depends on the night and not on the run, so a run that starts too late does nothing instead of running all day.
    """
    if not re.fullmatch(r"\d{1,2}:\d{2}", at):
        raise UsageError(f"stop-at is {at!r}; it must be a time of day, as 06:00")
    hours, minutes = (int(piece) for piece in at.split(":"))
    if hours > 23 or minutes > 59:
        raise UsageError(f"stop-at is {at!r}; allowed are 00:00 to 23:59")
    moment = time(hours, minutes)
    day = date.fromisoformat(night) + timedelta(days=moment <= NOON)
    return datetime.combine(day, moment, zone)


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"timezone is {name!r}; it must be a name such as UTC or Europe/Berlin") from None
