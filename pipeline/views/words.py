"""Numbers, times and foreign texts as a page shows them."""

from collections.abc import Iterable
from datetime import datetime
from statistics import median
from zoneinfo import ZoneInfo

CLIPPED = 400


def shown(value: object, limit: int = CLIPPED) -> str:
    """Any value as text of at most `limit` characters; invisible characters are escaped."""
    whole = str(value)
    clipped = whole if len(whole) <= limit else f"{whole[: limit - 1]}…"
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in clipped)


def change(value: float, earlier: Iterable[float]) -> str:
    """A value against the median of earlier nights that had any: "12 % above the median of 5 nights"."""
    known = [each for each in earlier if each > 0]
    if not known or value <= 0:
        return ""
    ratio = value / median(known)
    nights = "the night before" if len(known) == 1 else f"the median of {len(known)} nights"
    if abs(ratio - 1) < 0.005:
        return f"as {nights}"
    if ratio >= 10:
        return f"{ratio:.0f} times {nights}"
    return f"{abs(ratio - 1):.0%} {'above' if ratio > 1 else 'below'} {nights}"


def moment(iso: str, timezone: str) -> str:
    """A moment as clocks there show it."""
    return f"{datetime.fromisoformat(iso).astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


def count(amount: int, noun: str) -> str:
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def number(amount: float) -> str:
    return f"{amount:,.0f}"


def large(amount: float) -> str:
    """Millions and billions by their names."""
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if amount >= size:
            return f"{amount / size:.{1 if amount >= 100 * size else 2}f} {name}"
    return number(amount)


def short(amount: float) -> str:
    """Three digits or so."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 1 or amount == 0 else f"{amount:.2g}"


def money(amount: float | None, currency: str) -> str:
    """An amount with its currency; small ones keep two digits that say something."""
    amount = amount or 0.0
    return f"{amount:,.2f} {currency}" if amount >= 0.01 or not amount else f"{amount:.2g} {currency}"


def duration(seconds: float) -> str:
    """A duration in its two largest units."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def size(amount: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if amount >= unit:
            return f"{short(amount / unit)} {name}"
    return count(round(amount), "byte")
