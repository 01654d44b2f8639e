"""Hand the most doubtful videos to a reviewer: contact sheets, and a manifest of their current prompts to correct.

python -m jobs.review OUTPUT --worst 200 --folder review
    ... look at review/sheets, correct prompts in review/manifest.parquet: move a point, add a box on a later frame ...
python -m jobs.label --manifest review/manifest.parquet --output OUTPUT ...      redoes the corrected videos alone
"""

import argparse
from pathlib import Path

from jobs import console
from jobs.command import add_storage, open_storage, reported, start


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.review",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 written; 3 written, but some videos are left out; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--worst", type=int, default=200, metavar="N", help="how many videos, the most doubtful first (default: 200)")
    add("--folder", type=Path, default=Path("review"), help="a local folder to write to (default: review)")
    add_storage(p)
    return p


@reported
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.query import open_labels  # these load much
    from pipeline.views.review import write_review

    storage = open_storage(given)
    with open_labels(given.output, storage=storage) as labels:
        done = write_review(labels, given.folder, worst=given.worst, storage=storage)
    for line in done.left_out[:20]:
        console.out.print(f"left out: {line}", markup=False)
    console.out.print(
        f"{len(done.video_ids)} videos: look at {given.folder}/sheets, correct {given.folder}/manifest.parquet, then\n"
        f"python -m jobs.label --manifest {given.folder}/manifest.parquet --output {given.output}",
        markup=False,
    )
    return 3 if done.left_out else 0


if __name__ == "__main__":
    start(main)
