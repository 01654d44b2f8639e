"""The command line of every command: whole option names only, and errors in one line with the nearest name."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn


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
