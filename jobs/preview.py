"""Draw labels over their videos: an overlay film (MP4, H.264) and a contact sheet (PNG) for each.

python -m jobs.preview OUTPUT                       the ten most doubtful videos
python -m jobs.preview OUTPUT --video clip-1 --video clip-2 --folder previews
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import CorpusError, UsageError
from pipeline.runs.values import user_path

WORST = 10

if TYPE_CHECKING:  # only for types: it loads duckdb before --help is shown
    from pipeline.storage import Storage
    from pipeline.tables.query import Labels


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 drawn; 3 some videos could not be drawn; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--video", action="append", metavar="ID", help="id of a video to draw; repeatable")
    add("--worst", type=int, metavar="N", help=f"draw the N most doubtful videos (default: {WORST})")
    add("--where", metavar="SQL", help='draw the videos for which this holds, e.g. "frames > 1000"')
    add("--folder", type=user_path, default=Path("preview"), help="local folder to write to (default: preview)")
    add("--only", choices=["film", "sheet"], help="draw only films or only sheets (default: both)")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.query import open_labels  # loads much

    storage = open_storage(given)
    with open_labels(given.output, storage=storage) as labels:
        failed = draw(labels, _chosen(labels, given), given.folder, only=given.only, storage=storage)
    return 3 if failed else 0


def draw(
    labels: "Labels", video_ids: Sequence[str], folder: Path, *, only: str | None, storage: "Storage | None" = None
) -> int:
    """Write film and contact sheet of each video into a folder and print their paths; returns how many failed."""
    from pipeline.video.content import open_labelled
    from pipeline.views.preview import contact_sheet, load_videos, save_sheet, write_film

    _make(folder)
    failed = 0
    for video_id in video_ids:
        (labelled,) = load_videos(labels, [video_id])
        path = folder / (quote(video_id, safe="")[:200].replace(".", "%2E", video_id.startswith(".")))
        try:
            with open_labelled(labelled.video, storage=storage) as reader:
                if only != "sheet":
                    write_film(labelled, reader, path.with_name(path.name + ".mp4"))
                if only != "film":
                    save_sheet(contact_sheet(labelled, reader), path.with_name(path.name + ".png"))
        except (CorpusError, OSError) as error:
            failed += 1
            console.out.print(f"{video_id!r} cannot be drawn: {error}", markup=False)
            continue
        written = {"film": "mp4", "sheet": "png"}.get(only or "", "{mp4,png}")
        console.out.print(f"{path}.{written}", markup=False)
    return failed


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder} cannot be made: {error.strerror or error}") from None


def _chosen(labels: "Labels", given: argparse.Namespace) -> list[str]:
    if (given.video is not None) + (given.worst is not None) + (given.where is not None) > 1:
        raise UsageError("more than one of --video, --worst and --where is given; allowed is one")
    if given.video:
        return list(given.video)
    if given.where is not None:
        found = labels.sql(f"SELECT video_id FROM videos WHERE {given.where} ORDER BY video_id")
    else:
        worst = WORST if given.worst is None else given.worst
        found = labels.sql(f"SELECT video_id FROM videos ORDER BY doubt DESC NULLS LAST, video_id LIMIT {worst}")
    return [row[0] for row in found.fetchall()]


if __name__ == "__main__":
    start(main)
