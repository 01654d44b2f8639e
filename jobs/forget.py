"""Erase videos from an output, everywhere: parts, tables and their history, failures, checkpoints, run records.

The tables' older versions go with them, so time travel to before this moment is over. Run no labelling meanwhile.
"""

import argparse
import logging
import sys
from pathlib import Path

from pipeline.errors import CorpusError, UsageError
from pipeline.store import Storage, Store


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
    p.add_argument("--storage", metavar="FILE", help="TOML file of endpoints and credentials by URI prefix")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.forget import forget  # loads deltalake: only once the options are right

    try:
        try:
            ids = {line for line in Path(given.video_ids).read_text().splitlines() if line}
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the video ids in {given.video_ids}: {error}") from None
        if not ids:
            raise UsageError(f"{given.video_ids} names no video; write one id a line")
        store = Store(given.output, storage=Storage.from_toml(given.storage) if given.storage else None)
        done = forget(store, ids)
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(
        f"erased {len(ids)} videos from {store}: {done.objects} objects, {done.mask_rows} mask rows, "
        f"{done.table_files} table files, {done.records} records rewritten"
    )
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main())
