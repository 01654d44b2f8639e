"""Publish committed parts into the Delta tables masks, masklets and videos; optionally optimize the tables.

Safe to repeat, to interrupt and to run beside labelling: readers see each video once, before or after.

Upgrade and go back (jobs.history lists runs and publications):

    python -m jobs.publish OUTPUT --run RUN [--dry-run]       the labels of one run, such as one with --no-publish
    python -m jobs.publish OUTPUT --rollback [--dry-run]      what the tables showed before labels were last replaced
    python -m jobs.publish OUTPUT --rollback --to NUMBER|RUN  what an earlier publication showed
    python -m jobs.publish OUTPUT --unpin                     the tables follow the runs again

The first three pin the labels: later runs do not replace them until a run wants the pinned label itself, or another one
of the same model and parameters that the pin did not replace.
"""

import argparse
import time

from jobs.command import add_storage, counted, handle_errors, open_store, start
from jobs.command_line import Parser
from jobs.options import duration
from pipeline.errors import UsageError
from pipeline.runs.summary import next_line


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 published; 3 published, but some parts could not be read or are missing;\n"
        "2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    what = p.add_mutually_exclusive_group()
    what.add_argument("--run", metavar="RUN", help="publish the labels that this run wants, and pin them")
    what.add_argument("--rollback", action="store_true", help="show again what an earlier publication showed; pin it")
    what.add_argument("--unpin", action="store_true", help="remove all pins, then publish what the last runs want")
    add("--to", metavar="NUMBER|RUN", help="with --rollback: number of a publication, or a run, for the last "
        "publication of its labels (default: the one before labels were last replaced)")  # fmt: skip
    add("--dry-run", action="store_true", help="print which videos would change, appear or go back, and why; change "
        "nothing")  # fmt: skip
    add("--json", action="store_true", help="with --dry-run: print one JSON object per video")
    add("--optimize", action="store_true", help="rewrite small, overlapping and unsorted files into large sorted ones")
    add(
        "--vacuum",
        type=duration,
        metavar="AGE",
        help="delete table files that no version younger than AGE, e.g. 7d, needs",
    )
    add(
        "--expire-parts",
        type=duration,
        metavar="AGE",
        help="delete parts that were published or superseded more than AGE ago; prints first which rollbacks this ends",
    )
    add(
        "--wait",
        type=duration,
        default=1800.0,
        metavar="TIME",
        help="time to wait for another publisher (default: 30m)",
    )
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    if given.to and not given.rollback:
        raise UsageError("--to needs --rollback")
    if given.json and not given.dry_run:
        raise UsageError("--json needs --dry-run")
    if given.dry_run and (given.optimize or given.vacuum is not None):
        raise UsageError("--dry-run shows publications and --expire-parts; leave out --optimize and --vacuum")
    from jobs import publish_actions as actions  # imported late: loads deltalake and duckdb
    from pipeline import tables

    store = open_store(given)
    if given.dry_run:
        return actions.show_preview(store, given)
    missing = 0
    if given.run or given.rollback:
        done, missing = actions.publish_selected(store, given)
    elif given.unpin:
        done = actions.publish_unpinned(store, given)
    else:
        done = tables.publish(store, wait_s=given.wait)
    print(
        f"published {counted(done.videos, 'video')} ({done.mask_rows} masks) to {store} in {done.seconds:.1f} s: "
        f"{done.batches} batches, {done.bytes_written / 1e6:.1f} MB written"
        if done.videos
        else f"nothing to publish in {store}"
    )
    if done.waiting:
        print(f"{counted(done.waiting, 'video')} without the wanted label yet; earlier labels, if any, stay")
    if done.withheld:
        print(actions.withheld_line(done.withheld))
    for part in done.unreadable:
        print(f"part left out: {part}")
    if given.optimize:
        for each in tables.optimize(store, wait_s=given.wait):
            print(
                f"optimized {each.table}: {each.files_before} to {each.files_after} files, "
                f"{each.bytes_rewritten / 1e6:.1f} MB rewritten"
            )
    if given.expire_parts is not None:
        expired = tables.expire_parts(
            store, older_than_s=given.expire_parts, now=time.time(), wait_s=given.wait, announce=actions.show_ended
        )
        print(f"expired {expired} parts")
    if given.vacuum is not None:
        removed = tables.vacuum(store, retention_hours=given.vacuum / 3600, wait_s=given.wait)
        print(f"vacuumed {removed} files")
    if done.videos:
        print(next_line(["preview", str(store)], ["report", str(store)]))
    return 3 if done.unreadable or missing else 0


if __name__ == "__main__":
    start(main)
