"""The command line of every command: whole option names only, and errors in one line with the nearest name."""

import argparse
import difflib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn

from pipeline.errors import UsageError
from pipeline.runs.values import read_toml, toml_arguments


def read_given(parser: argparse.ArgumentParser, arguments: list[str]) -> dict[str, Any]:
    """The options that are given on the command line or in the TOML file of --config, by name; the command line wins.

    Raises:
        UsageError: The file cannot be read, or has an option that the command does not have.
    """
    if path := parser.parse_args(arguments).config:
        arguments = [*toml_arguments(read_toml(path), parser, where=path), *arguments]
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    given.pop("config", None)
    return given


def require(given: Mapping[str, Any], *names: str) -> None:
    """Raise a UsageError if one of these options is not given."""
    if missing := [f"--{name}" for name in names if name not in given]:
        raise UsageError(f"{', '.join(missing)} missing; give each on the command line or in --config")


def share_options(parser: argparse.ArgumentParser, source: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Give a command options of another one, with the same meaning and help."""
    for action in source._actions:
        if set(action.option_strings) & set(names):
            parser._add_action(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and which takes no abbreviated options."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **given})

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and one line."""
        print(f"error: {message}{self._hint(message)}; {self.prog} --help explains the options", file=sys.stderr)
        sys.exit(2)

    def _hint(self, message: str) -> str:
        unknown = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        near = difflib.get_close_matches(unknown[1], list(self._options()), n=1) if unknown else []
        return f" (did you mean {near[0]}?)" if near else ""

    def _options(self) -> Iterator[str]:
        """Options of this command and of its subcommands."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield from sub._options()
