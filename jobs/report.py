"""Write a static site about labels: numbers, failures, the most doubtful videos, and a page per video that plays it.

python -m jobs.report OUTPUT --folder report      then open report/index.html, or upload the folder to any web server

A video's page also takes corrections: choose an object, click points or draw a box on any frame, and give the JSON to
`jobs.review apply`.
"""

import argparse
import time
from pathlib import Path

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, open_store, start
from jobs.command_line import Parser
from pipeline.runs.values import user_path
from pipeline.storage import redact


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 written; 3 written, but some videos could not be read; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--folder", type=user_path, default=Path("report"), help="local folder to write to (default: report)")
    add("--run", metavar="ID", help="id of a run: only its videos (default: all videos)")
    add(
        "--thumbnails", type=int, default=200, metavar="N", help="pictures of the N most doubtful videos (default: 200)"
    )
    add(
        "--clips",
        choices=["auto", "link", "copy", "none"],
        default="auto",
        help="auto: play videos from where they are, and put small H.264 copies of those of the N beside the pages "
        "that a browser cannot open (S3, HEVC, image folders); link: no copies; copy: copies of all N, for a web "
        "server; none: masks alone (default: auto)",
    )
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.runs.corrections import current_prompts, read_corrections  # these load much
    from pipeline.tables.query import open_labels
    from pipeline.views.report import write_report
    from pipeline.views.words import count, size

    def announce(clips: int, frames: int) -> None:
        why = "" if given.clips == "copy" else " that browsers cannot open; --clips none leaves them out"
        console.out.print(f"copying {count(clips, 'clip')} of {count(frames, 'frame')}{why}", markup=False)

    started = time.perf_counter()
    storage, store = open_storage(given), open_store(given)
    with open_labels(store) as labels:
        done = write_report(
            labels,
            given.folder,
            title=given.output,
            run_id=given.run,
            thumbnails=given.thumbnails,
            clips=given.clips,
            storage=storage,
            announce=announce,
            correct=current_prompts(read_corrections(store)),
        )
    for line in done.unreadable[:20]:
        console.out.print(f"no picture of {line}", markup=False)
    console.out.print(
        f"{given.folder}/index.html: {count(done.videos, 'video')}, {count(done.thumbnails, 'thumbnail')}, "
        f"{done.bytes / 1e6:,.1f} MB, {time.perf_counter() - started:.1f} s",
        markup=False,
    )
    if done.copies:
        console.out.print(
            f"{count(done.copies, 'clip')} copied into the report: {size(done.copied_bytes)}", markup=False
        )
    console.say_next(["review", redact(given.output), "--worst", "20"])
    return 3 if done.unreadable else 0


if __name__ == "__main__":
    start(main)
