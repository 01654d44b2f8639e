"""Write labels in a format that other tools read.

Videos are read chunk by chunk, so memory does not grow with the labels; an interrupted export resumes where it stopped.
The split is a hash of video_id, so it is the same in every export. Only files that an export wrote are ever replaced.
"""

import argparse
import logging

from rich.console import Console

from jobs.command import add_storage, counted, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.formats.export import export_labels
from pipeline.formats.labels import open_selection
from pipeline.formats.library import write_with_library
from pipeline.formats.registry import FORMATS, LIBRARY_FORMATS, format_of
from pipeline.formats.split import Splits
from pipeline.storage import Store

SHOWN = 20
ABOUT = {form.name: form.about for form in FORMATS.values()} | {
    form.name: form.about for form in LIBRARY_FORMATS.values()
}
POLYGONS = [name for name, form in FORMATS.items() if form.has_polygons]

out = Console(highlight=False, soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="formats:\n" + "".join(f"  {name:13} {about}\n" for name, about in ABOUT.items()) + "\n"
        "exit codes: 0 all written; 3 some videos left out; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--format", required=True, choices=ABOUT, metavar="NAME", help="name of a format, as listed below")
    add(
        "--to",
        required=True,
        metavar="URI",
        help="where to write: an empty folder, or an unfinished export to continue",
    )
    add(
        "--where",
        metavar="SQL",
        help='rows to export, by columns of masks, masklets and videos, e.g. "predicted_iou > 0.8"',
    )
    add(
        "--split",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="share of videos held out, e.g. val=0.1; repeatable",
    )
    add("--every", type=int, metavar="N", help="frame stride: export frames 0, N, 2N, ... (default: 4 for sav, else 1)")
    add(
        "--frames",
        choices=("reference", "write"),
        default="reference",
        help="name the frames' pictures, or write them (default: reference)",
    )
    add(
        "--tolerance",
        type=float,
        metavar="PX",
        help="distance in pixels between polygon and outline (default: 0, exact)",
    )
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(arguments)
    if args.tolerance is not None and (args.tolerance < 0 or args.format not in POLYGONS):
        raise UsageError(
            f"--tolerance must be at least 0 (got {args.tolerance:g}) and applies to {' and '.join(POLYGONS)} only"
        )
    storage = open_storage(args)
    splits = Splits.parse(args.split)
    library = LIBRARY_FORMATS.get(args.format)
    every = (1 if library else format_of(args.format).default_stride) if args.every is None else args.every
    selection = open_selection(args.output, storage=storage, where=args.where, every=every)
    if library:
        if args.frames == "write":
            raise UsageError(f"--frames write is not available for {args.format}, which refers to the videos")
        rows = write_with_library(library, selection, args.to, splits=splits, storage=storage)
        out.print(f"wrote {rows} masks to {args.to}", markup=False)
        return 0
    target = Store(args.to, storage=storage)
    done = export_labels(
        selection,
        target,
        format_of(args.format),
        splits=splits,
        tolerance=args.tolerance or 0.0,
        labels=args.output,
        with_pictures=args.frames == "write",
        storage=storage,
        watch=lambda at, of: logging.getLogger("export").info("%d of %d videos", at, of),
    )
    before = f", of which {done.chunks_done_before} of {done.chunks} chunks were complete before"
    wrote = f"wrote {counted(done.rows, 'mask')} of {counted(done.videos, 'video')} to {target}"
    out.print(f"{wrote}{before if done.chunks_done_before else ''}", markup=False)
    for name in done.empty_splits:
        out.print(f"no video is in the split {name}, so no file names it", markup=False)
    for problem in done.problems[:SHOWN]:
        out.print(f"left out: {problem}", markup=False)
    if len(done.problems) > SHOWN:
        out.print(f"... and {len(done.problems) - SHOWN} more")
    return 3 if done.problems else 0


if __name__ == "__main__":
    start(main)
