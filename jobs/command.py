"""Shared by all commands: the storage option, errors without a traceback, log lines, and exit codes."""

import argparse
import ast
import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline import logs
from pipeline.errors import CorpusError, UsageError

if TYPE_CHECKING:  # only for types: --help is shown without loading clients of object storage
    from pipeline.storage import Storage, Store
    from pipeline.tables.output import Kind

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it: 128 + SIGINT."""

JOBS = Path(__file__).parent

Main = Callable[[list[str] | None], int]


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add --storage, the endpoints and credentials of a command."""
    parser.add_argument(
        "--storage",
        metavar="FILE",
        help="TOML file of endpoints and credentials by URI prefix (default: the environment)",
    )


def open_storage(given: argparse.Namespace) -> "Storage":
    """The storage that --storage describes; without it the credentials of the environment."""
    from pipeline.storage import Storage

    return Storage.from_toml(given.storage)


def open_store(given: argparse.Namespace, *, kind: "Kind | None" = "labels") -> "Store":
    """The output at OUTPUT; of labels, or of either kind where `kind` is None.

    Raises:
        UsageError: OUTPUT is not an output: no run has written there, or it is another folder.
    """
    from pipeline.storage import Store
    from pipeline.tables.output import require_output

    store = Store(given.output, storage=open_storage(given))
    require_output(store, kind)
    return store


def command_names() -> list[str]:
    """Names of all commands: the modules of this folder that define main."""
    return sorted(path.stem for path in JOBS.glob("[a-z]*.py") if "\ndef main(" in path.read_text())


def summary_of(name: str) -> str:
    """The summary of a command, read without importing it, because imports are slow."""
    return (ast.get_docstring(ast.parse((JOBS / f"{name}.py").read_text())) or "").partition("\n")[0]


def handle_errors(main: Main) -> Main:
    """A command whose errors are a line on stderr and an exit code: 2 for wrong usage, 1 for any other."""

    @functools.wraps(main)
    def run(arguments: list[str] | None = None) -> int:
        try:
            return main(arguments)
        except CorpusError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2 if isinstance(error, UsageError) else 1

    return run


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 video, 2 videos."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def start(main: Main, arguments: list[str] | None = None) -> NoReturn:
    """Run a command as this process, with log lines in the form set by SAM2_CORPUS_LOGS.

    Ctrl-C, for label and nightly the second one, ends it with exit code 130 and one line.
    """

    @handle_errors
    def run(arguments: list[str] | None) -> int:
        logs.setup_from_environment()
        return main(arguments)

    try:
        code = run(arguments)
        if cluster := sys.modules.get("pipeline.workers.cluster"):
            cluster.leave()
        sys.exit(code)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends the process while Ray shuts down
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
