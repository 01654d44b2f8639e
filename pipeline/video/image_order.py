"""The order of an image sequence: by the numbers in the files' names."""

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import NamedTuple

_NUMBER = re.compile(
    r"(?P<before>.*?)"
    r"(?P<sign>(?:(?<=^)|(?<=[^0-9A-Za-z.-]))-)?"  # first, or after a separator: a-1 has no sign
    r"(?P<whole>(?<![0-9.])[0-9]+)(?:\.(?P<fraction>[0-9]+))?(?P<exponent>e[+-][0-9]{1,3})?"
    r"(?P<after>[^0-9]*)"
)


_MAX_DIGITS = 4000
"""Python converts at most 4300 digits to a number."""


class _Number(NamedTuple):
    before: str
    after: str
    negative: bool
    fraction: str
    value: Decimal


def in_order(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Paths by the numbers in their names: 2.png before 10.png, 0.05.png before 0.1.png, -1.png before 0.png.

    Decimals and signs count if every name is one number between the same texts. In all other names each group of digits
    is a separate number, so that 1.2.10.png comes after 1.2.9.png.
    """
    numbered = [(number, path) for path in paths if (number := _number(path.stem))]
    if len(numbered) < len(paths) or not _are_decimals([number for number, _ in numbered]):
        return by_digits(paths)
    return [path for _, path in sorted(numbered, key=lambda each: (each[0].value, each[1].name))]


def by_digits(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Paths in the order of their names, each group of digits compared as a number."""
    return sorted(paths, key=_digits)


def _number(stem: str) -> _Number | None:
    match = _NUMBER.fullmatch(stem)
    if match is None:
        return None
    fraction, exponent = match["fraction"] or "", match["exponent"] or ""
    value = Decimal(f"{match['sign'] or ''}{match['whole']}.{fraction or '0'}{exponent}")
    return _Number(match["before"], match["after"], bool(match["sign"]), fraction, value)


def _are_decimals(numbers: Sequence[_Number]) -> bool:
    """Whether names are numbers with a sign or a fraction, and not counters of two levels such as 1.9 and 1.10."""
    if len({(number.before, number.after) for number in numbers}) != 1:
        return False
    if any(number.negative for number in numbers) and not all(number.negative for number in numbers):
        return True  # where all have a dash, it may be a separator
    fractions = [number.fraction for number in numbers if number.fraction]
    if not fractions or any(number.negative for number in numbers):
        return False
    if any(len(fraction) > 1 and fraction.startswith("0") for fraction in fractions):
        return True
    same_length = len({len(fraction) for fraction in fractions}) == 1
    return same_length or not any(len(fraction) > 1 and fraction.endswith("0") for fraction in fractions)


def _digits(path: PurePosixPath) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(1, int(part[:_MAX_DIGITS]), "") if part.isdecimal() else (0, 0, part) for part in parts], path.name
