"""Query the published labels in SQL (DuckDB): tables masks, masklets, videos, failures and runs.

python -m jobs.query OUTPUT --describe
python -m jobs.query OUTPUT "SELECT category, avg(area) FROM masks JOIN masklets USING (video_id, object_id) GROUP BY 1"
"""

import argparse
import shutil
import sys

from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import UsageError

ROWS_SHOWN = 100


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.query",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 answered; 2 wrong usage or SQL, or nothing is published; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("sql", metavar="SQL", nargs="?", help="one SQL statement")
    add("--describe", action="store_true", help="print the columns of all tables, their types and what they hold")
    add(
        "--format",
        choices=["table", "csv", "json"],
        default="table",
        help="form of the answer; a table wider than the terminal has a line for each value, json an object for each "
        "row (default: table)",
    )
    add(
        "--rows",
        type=int,
        default=ROWS_SHOWN,
        metavar="N",
        help=f"number of rows shown as a table (default: {ROWS_SHOWN})",
    )
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    if (given.sql is None) != given.describe:
        raise UsageError("give one SQL statement, or --describe")
    from pipeline.tables.answers import write_answer, write_description  # these load much
    from pipeline.tables.query import open_labels

    try:
        with open_labels(given.output, storage=open_storage(given)) as labels:
            if given.describe:
                write_description(labels, sys.stdout)
                return 0
            width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
            write_answer(labels, given.sql, sys.stdout, form=given.format, rows=given.rows, width=width)
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    start(main)
