"""List which runs the tables showed when: one row for each publication and run whose labels it showed.

`number` is that of jobs.publish --rollback --to. Publication 0 is what the tables showed before publications were
recorded.
"""

import argparse
import json

from jobs.command import add_storage, handle_errors, open_store, start
from jobs.command_line import Parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 listed; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--last", type=int, default=20, metavar="N", help="number of publications shown (default: 20; --json: all)")
    add("--json", action="store_true", help="print one JSON object per row")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.answers import table_text  # imported late: they load deltalake and duckdb
    from pipeline.tables.pins import read_pins
    from pipeline.tables.records import read_publications

    store = open_store(given)
    rows = read_publications(store)
    if given.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    if not rows:
        print(f"nothing is published in {store}")
        return 0
    numbers = list(dict.fromkeys(row["number"] for row in rows))[-max(given.last, 1) :]
    shown = [list(row.values()) for row in rows if row["number"] in numbers]
    print(table_text(list(rows[0]), shown))
    for pin in read_pins(store):
        print(f"pinned: {pin}")
    return 0


if __name__ == "__main__":
    start(main)
