"""Label large video corpora with SAM 2, and work with the labels.

usage: sam2-corpus COMMAND ...      or python -m jobs.COMMAND ...
"""

import difflib
import importlib
import sys
from importlib.metadata import version

from jobs.command import command_names, start, summary_of


def main() -> None:
    """Run the command that the first argument of this process names."""
    name, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in command_names():
        start(importlib.import_module(f"jobs.{name}").main, arguments)
    if name in ("-h", "--help"):
        print(usage())
        sys.exit(0)
    if name == "--version":
        print(f"sam2-corpus {version('sam2-corpus')}")
        sys.exit(0)
    near = difflib.get_close_matches(name, command_names(), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    print(f"error: no command {name!r}{hint}; commands are {', '.join(command_names())}", file=sys.stderr)
    sys.exit(2)


def usage() -> str:
    """The commands with a line about each."""
    lines = [f"  {name:10}{summary_of(name)}" for name in command_names()]
    return "\n".join(
        [
            str(__doc__),
            *lines,
            "",
            "sam2-corpus COMMAND --help explains a command; sam2-corpus --version prints the version.",
        ]
    )


if __name__ == "__main__":
    main()
