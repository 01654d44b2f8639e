"""Show what a run is doing or did: videos done, in flight and failed by class, rate, ETA.

Reads progress.json, which runs rewrite every few seconds, and nothing else.
"""

import argparse
import json
import time

from jobs.command import add_storage, handle_errors, open_store, start
from jobs.command_line import Parser
from pipeline.runs.nightly.status import lines, read_status


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m jobs.status", description=__doc__)
    add = p.add_argument
    add("output", metavar="OUTPUT", help="labels or detections (path or fsspec URL)")
    add("--run", metavar="RUN", help="id of the run (default: the newest that had videos to label)")
    add("--json", action="store_true", help="print the whole progress.json, with state and age_s")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    store = open_store(given, kind=None)
    status = read_status(store, run_id=given.run)
    now = time.time()
    if given.json:
        print(
            json.dumps({**status.progress, "state": status.state(now), "age_s": round(status.age_s(now), 1)}, indent=1)
        )
    else:
        print("\n".join(lines(status, now=now)))
    return 0


if __name__ == "__main__":
    start(main)
