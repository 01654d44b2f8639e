"""Erase videos from an output: parts, rows, failures, checkpoints, corrections, records of runs, table history.

All earlier versions of the tables are deleted, so time travel to them is no longer possible. Stop labelling first.
"""

import argparse

from jobs.command import add_storage, counted, handle_errors, open_store, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.runs.values import user_path

SHOWN = 20
"""Largest number of foreign files that are listed."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.forget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 erased; 3 some videos were not found; 2 wrong usage; 1 unexpected",
    )
    p.add_argument("output", metavar="OUTPUT", help="path or fsspec URL of the labels")
    p.add_argument("--video-ids", required=True, metavar="FILE", help="text file of video ids, one per line")
    p.add_argument("--dry-run", action="store_true", help="print what would be erased and change nothing")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.forget import find_traces, forget  # imported late: loads deltalake

    ids = _read_ids(given.video_ids)
    store = open_store(given, kind=None)
    done = find_traces(store, ids) if given.dry_run else forget(store, ids)
    if done.videos:
        print(
            f"{'would erase' if given.dry_run else 'erased'} {counted(len(done.videos), 'video')} from {store}: "
            f"{counted(len(done.objects), 'object')}, {counted(done.mask_rows, 'mask row')}, "
            f"{counted(len(done.records), 'record')}, all table history"
        )
    else:
        print(f"nothing to erase in {store}")
    for video_id in sorted(ids - done.videos):
        print(f"not found: {video_id!r}")
    for path in done.foreign[:SHOWN]:
        print(f"not written by sam2-corpus, so it is kept: {path}")
    if len(done.foreign) > SHOWN:
        print(f"... and {len(done.foreign) - SHOWN} more such files")
    return 0 if ids == done.videos else 3


def _read_ids(path: str) -> set[str]:
    try:
        ids = {line for line in user_path(path).read_text().splitlines() if line}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the video ids in {path}: {error}") from None
    if not ids:
        raise UsageError(f"{path} names no video; write one id per line")
    return ids


if __name__ == "__main__":
    start(main)
