"""Types of options: text on the command line to values, for argparse."""

import argparse
import math
import re
from datetime import datetime, timedelta

from pipeline.errors import UsageError
from pipeline.runs.groups import WorkerGroup
from pipeline.runs.values import parse_duration


def duration(text: str) -> float:
    """Seconds of a duration: `90`, `120s`, `30min`, `12h`, `7d` or `2w`."""
    try:
        return parse_duration(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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


def worker_group(text: str) -> WorkerGroup:
    """A kind of workers: `name=large,gpus=1,label=KEY=VALUE,memory=80`."""
    try:
        return WorkerGroup.parse(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
