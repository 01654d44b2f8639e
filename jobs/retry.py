"""Take failed videos out of quarantine, by failure class and age, so that the next run retries them."""

import argparse
from collections import Counter
from datetime import UTC, datetime

from jobs import options
from jobs.command import add_storage, handle_errors, open_store, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.labels.failures import read_failures
from pipeline.runs.nightly.retry import chosen, release
from pipeline.runs.values import user_path


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m jobs.retry", description=__doc__)
    add = p.add_argument
    add("output", metavar="OUTPUT", help="labels or detections (path or fsspec URL)")
    add(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="CLASS",
        help="failure class, e.g. oom or deadline; repeatable",
    )
    add(
        "--older-than",
        type=options.duration,
        default=0.0,
        metavar="AGE",
        help="only failures at least this old, e.g. 7d (default: 0)",
    )
    add("--video-ids", metavar="FILE", help="only these videos: text file, one id per line")
    add("--all", action="store_true", help="all failures")
    add_storage(p)
    add("--dry-run", action="store_true", help="print what would be retried; change nothing")
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    if not (given.classes or given.older_than or given.video_ids or given.all):
        raise UsageError("no failures chosen; give --class, --older-than, --video-ids or --all")
    store = open_store(given, kind=None)
    failures = read_failures(store)
    due = chosen(
        failures,
        classes=given.classes,
        older_than_s=given.older_than,
        video_ids=_ids(given.video_ids) if given.video_ids else (),
        now=datetime.now(UTC),
    )
    if not given.dry_run:
        release(store, due)
    verb = "would be" if given.dry_run else "will be"
    print(f"{len(due)} of {len(failures)} videos in quarantine {verb} retried by the next run")
    for name, count in Counter(failure.failure_class for failure in due).most_common():
        print(f"  {count:8} {name}")
    if due or not failures:
        return 0
    there = ", ".join(sorted({failure.failure_class for failure in failures}))
    print(f"failure classes in quarantine: {there}")
    return 0


def _ids(path: str) -> set[str]:
    try:
        return {line for line in user_path(path).read_text().splitlines() if line}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the video ids in {path}: {error}") from None


if __name__ == "__main__":
    start(main)
