"""Publish committed parts into the Delta tables masks, masklets and videos; optionally optimize the tables.

Safe to repeat, to interrupt and to run beside labelling: readers see each video once, before or after.
"""

import argparse
import time

from jobs.command import add_storage, counted, handle_errors, open_store, start
from jobs.command_line import Parser
from jobs.options import duration


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 published; 3 published, but some parts could not be read; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
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
        help="delete parts that were published or superseded more than AGE ago",
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
    from pipeline import tables as publish  # imported late: loads deltalake and duckdb

    store = open_store(given)
    done = publish.publish(store, wait_s=given.wait)
    print(
        f"published {counted(done.videos, 'video')} ({done.mask_rows} masks) to {store} in {done.seconds:.1f} s: "
        f"{done.batches} batches, {done.bytes_written / 1e6:.1f} MB written"
        if done.videos
        else f"nothing to publish in {store}"
    )
    if done.waiting:
        print(f"{counted(done.waiting, 'video')} without the wanted label yet; earlier labels, if any, stay")
    for part in done.unreadable:
        print(f"part left out: {part}")
    if given.optimize:
        for each in publish.optimize(store, wait_s=given.wait):
            print(
                f"optimized {each.table}: {each.files_before} to {each.files_after} files, "
                f"{each.bytes_rewritten / 1e6:.1f} MB rewritten"
            )
    if given.expire_parts is not None:
        expired = publish.expire_parts(store, older_than_s=given.expire_parts, now=time.time(), wait_s=given.wait)
        print(f"expired {expired} parts")
    if given.vacuum is not None:
        removed = publish.vacuum(store, retention_hours=given.vacuum / 3600, wait_s=given.wait)
        print(f"vacuumed {removed} files")
    return 3 if done.unreadable else 0


if __name__ == "__main__":
    start(main)
