"""Examine an output: is each video once in the tables, by its wanted labels, and is nothing broken or left over?

With --repair, mends what a crash at a bad moment can leave. Do not repair while a run is labelling.
"""

import argparse
from collections import Counter

from jobs.command import add_storage, handle_errors, open_store, start

SHOWN = 20


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 healthy, or all repaired; 3 something is wrong; 2 wrong usage; 1 unexpected",
    )
    p.add_argument("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    p.add_argument("--repair", action="store_true", help="mend what can be mended without losing anything")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.doctor import examine  # loads duckdb and deltalake: only once the options are right

    store = open_store(given)
    findings = examine(store, repair=given.repair)
    for kind, count in Counter(finding.kind for finding in findings).most_common():
        print(f"{count:8} {kind}")
        for finding in [finding for finding in findings if finding.kind == kind][:SHOWN]:
            print(f"         {finding.what}{' (repaired)' if finding.repaired else ''}")
    left = sum(not finding.repaired for finding in findings)
    print(
        f"{store} is healthy" if not left else f"{left} things are wrong" + ("" if given.repair else "; try --repair")
    )
    return 3 if left else 0


if __name__ == "__main__":
    start(main)
