"""How values are written on the command line and in configuration files, and what they mean."""

import argparse
import math
import re
import tomllib
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.errors import UsageError

UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Seconds: `90`, `120s`, `5m`, `2h` or `7d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90, 120s, 5m, 2h or 7d")
    return float(found[1]) * UNITS_S[found[2] or "s"]


def fraction(text: str) -> float:
    """A share between 0 and 1: `5%` or `0.05`."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 5% or 0.05")
    return value


def shard(text: str) -> tuple[int, int]:
    """One of n parts: `2/4`."""
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard; write i/n with i from 1 to n, such as 2/4")
    return int(found[1]), int(found[2])


def moment(text: str, *, now: datetime | None = None) -> float:
    """Seconds since the epoch: the next `06:00` of this machine's clock, or a date and time in ISO 8601."""
    now = now or datetime.now().astimezone()
    try:
        if found := re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip()):
            at = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
            return (at if at > now else at + timedelta(days=1)).timestamp()
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 06:00 or 2026-01-31T06:00+01:00") from None


def from_toml(path: str, parser: argparse.ArgumentParser) -> list[str]:
    """A configuration file as command-line arguments, to be put before those of the command line, which win.

    Raises:
        UsageError: The file cannot be read, or names something that is no option.
    """
    try:
        found = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    flags = {
        option.removeprefix("--"): action.nargs == 0
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--config")
    }
    arguments: list[str] = []
    for name, value in found.items():
        option = name.replace("_", "-")
        if option not in flags:
            raise UsageError(f"{path}: {name!r} is no option; allowed are {', '.join(sorted(flags))}")
        if flags[option]:
            if not isinstance(value, bool):
                raise UsageError(f"{path}: {name} is {value!r}; it must be true or false")
            arguments += [f"--{option}"] if value else []
        elif isinstance(value, bool | dict):
            raise UsageError(f"{path}: {name} is {value!r}; it must be a text or a number")
        else:
            arguments += [f"--{option}={each}" for each in (value if isinstance(value, list) else [value])]
    return arguments
