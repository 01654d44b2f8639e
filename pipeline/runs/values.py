"""Values on the command line and in configuration files.

    DURATION = NUMBER [UNIT], where UNIT is s, m or min, h, d or w; without a unit the number counts seconds.

In a TOML file an option has its name of the command line, with - or _; a flag is true or false; a list repeats its
option.
"""

import argparse
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(UNITS_S)})?")


def user_path(text: str) -> Path:
    """A path of this machine; `~` is the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - it keeps the name of a user that does not exist


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 90, 120s, 5m, 30min, 12h, 7d or 2w.

    Raises:
        UsageError: The text is no duration.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise UsageError(f"duration is {text!r}; write a number with a unit, such as 90s, 30min, 12h, 7d or 2w")
    return float(found[1]) * UNITS_S[found[2] or "s"]


def read_toml(path: str) -> dict[str, Any]:
    """The tables and values of a configuration file.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return tomllib.loads(user_path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None


def toml_arguments(table: Mapping[str, Any], parser: argparse.ArgumentParser, *, where: str) -> list[str]:
    """A table of options as arguments of a command.

    Args:
        table: options by name.
        parser: of the command.
        where: file or table, for messages.

    Raises:
        UsageError: A name is no option, or its value is of a wrong type.
    """
    flags = {
        option.removeprefix("--"): action.nargs == 0
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and option not in ("--help", "--config")
    }
    arguments: list[str] = []
    for name, value in table.items():
        option = name.replace("_", "-")
        if option not in flags:
            command = (parser.prog or "").rpartition(" ")[2]
            raise UsageError(f"{where}: {name!r} is no option of {command}; allowed are {', '.join(sorted(flags))}")
        if flags[option]:
            if not isinstance(value, bool):
                raise UsageError(f"{where}: {name} is {value!r}; it must be true or false")
            arguments += [f"--{option}"] if value else []
            continue
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool | dict | list):
                raise UsageError(f"{where}: {name} is {each!r}; it must be a text or a number")
            arguments.append(f"--{option}={each}")
    return arguments
