"""Check that each video is in the tables once, with its wanted labels, and that nothing is damaged or left over.

With --repair, repairs what a crash can leave. Do not repair while a run is labelling. Labels of runs with --no-publish
are reported as staged, which is no error; --repair does not publish them.
"""

import argparse
from collections import Counter

from jobs.command import add_storage, counted, handle_errors, open_store, start
from jobs.command_line import Parser

SHOWN = 20


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 healthy, or all repaired; 3 something is wrong; 2 wrong usage; 1 unexpected",
    )
    p.add_argument("output", metavar="OUTPUT", help="path or fsspec URL of the labels")
    p.add_argument("--repair", action="store_true", help="repair what can be repaired without loss")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.doctor import examine  # imported late: loads duckdb and deltalake

    store = open_store(given)
    findings = examine(store, repair=given.repair)
    for kind, count in Counter(finding.kind for finding in findings).most_common():
        print(f"{count:8} {kind}")
        for finding in [finding for finding in findings if finding.kind == kind][:SHOWN]:
            print(f"         {finding.what}{' (repaired)' if finding.repaired else ''}")
    if any(finding.kind == "staged label" for finding in findings):
        print(f"staged labels are committed and wait to be published: python -m jobs.publish {store} [--run RUN]")
    wrong = sum(finding.is_wrong for finding in findings)
    if not wrong:
        print(f"{store} is healthy")
        return 0
    print(f"{counted(wrong, 'problem')} found" + ("" if given.repair else "; try --repair"))
    return 3


if __name__ == "__main__":
    start(main)
