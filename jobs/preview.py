"""Draw labels over their videos: an overlay film (MP4, H.264) and a contact sheet (PNG) for each.

python -m jobs.preview OUTPUT --video clip-1 --video clip-2 --folder previews
python -m jobs.preview OUTPUT --worst 20
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, start
from pipeline.errors import CorpusError, UsageError
from pipeline.runs.values import user_path

if TYPE_CHECKING:  # only for types: it loads duckdb before --help is shown
    from pipeline.tables.query import Labels


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 drawn; 3 some videos could not be drawn; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--video", action="append", metavar="ID", help="id of a video to draw; repeatable")
    add("--worst", type=int, metavar="N", help="draw the N most doubtful videos")
    add("--where", metavar="SQL", help='draw the videos for which this holds, e.g. "frames > 1000"')
    add("--folder", type=user_path, default=Path("preview"), help="local folder to write to (default: preview)")
    add("--only", choices=["film", "sheet"], help="draw only films or only sheets (default: both)")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    from pipeline.tables.query import open_labels
    from pipeline.video.content import open_labelled
    from pipeline.views.preview import contact_sheet, load_videos, save_sheet, write_film  # loads much

    storage = open_storage(given)
    failed = 0
    with open_labels(given.output, storage=storage) as labels:
        chosen = _chosen(labels, given)
        _make(given.folder)
        for video_id in chosen:
            (labelled,) = load_videos(labels, [video_id])
            path = given.folder / (quote(video_id, safe="")[:200].replace(".", "%2E", video_id.startswith(".")))
            try:
                with open_labelled(labelled.video, storage=storage) as reader:
                    if given.only != "sheet":
                        write_film(labelled, reader, path.with_name(path.name + ".mp4"))
                    if given.only != "film":
                        save_sheet(contact_sheet(labelled, reader), path.with_name(path.name + ".png"))
            except (CorpusError, OSError) as error:
                failed += 1
                console.out.print(f"{video_id!r} cannot be drawn: {error}", markup=False)
                continue
            written = {"film": "mp4", "sheet": "png"}.get(given.only, "{mp4,png}")
            console.out.print(f"{path}.{written}", markup=False)
    return 3 if failed else 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder} cannot be made: {error.strerror or error}") from None


def _chosen(labels: "Labels", given: argparse.Namespace) -> list[str]:
    if (given.video is not None) + (given.worst is not None) + (given.where is not None) != 1:
        raise UsageError("exactly one of --video, --worst and --where must say which videos to draw")
    if given.video:
        return list(given.video)
    if given.worst is not None:
        found = labels.sql(f"SELECT video_id FROM videos ORDER BY doubt DESC NULLS LAST, video_id LIMIT {given.worst}")
    else:
        found = labels.sql(f"SELECT video_id FROM videos WHERE {given.where} ORDER BY video_id")
    return [row[0] for row in found.fetchall()]


if __name__ == "__main__":
    start(main)
