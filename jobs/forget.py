"""Erase videos from an output, everywhere: parts, tables and their history, failures, checkpoints, run records.

The tables' older versions go with them, so time travel to before this moment is over. Run no labelling meanwhile.
"""

import argparse
from pathlib import Path

from jobs.command import add_storage, open_store, reported, start
from pipeline.errors import UsageError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.forget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 erased; 2 wrong usage; 1 unexpected",
    )
    p.add_argument("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    p.add_argument("--video-ids", required=True, metavar="FILE", help="the videos: a text file, one id a line")
    add_storage(p)
    return p


@reported
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.forget import forget  # loads deltalake: only once the options are right

    try:
        ids = {line for line in Path(given.video_ids).read_text().splitlines() if line}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the video ids in {given.video_ids}: {error}") from None
    if not ids:
        raise UsageError(f"{given.video_ids} names no video; write one id a line")
    store = open_store(given)
    done = forget(store, ids)
    print(
        f"erased {len(ids)} videos from {store}: {done.objects} objects, {done.mask_rows} mask rows, "
        f"{done.table_files} table files, {done.records} records rewritten"
    )
    return 0


if __name__ == "__main__":
    start(main)
