"""Draw labels over their videos, or the prompts of a manifest before anything is labelled.

python -m jobs.preview OUTPUT                       films and contact sheets of the ten most doubtful videos
python -m jobs.preview OUTPUT --video clip-1 --video clip-2 --folder previews
python -m jobs.preview --manifest manifest.parquet  the clicks, boxes and masks of the first ten videos
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import CorpusError, UsageError
from pipeline.runs.values import user_path
from pipeline.storage import redact

DRAWN = 10

if TYPE_CHECKING:  # only for types: it loads duckdb before --help is shown
    from pipeline.manifest import Manifest
    from pipeline.storage import Storage
    from pipeline.tables.query import Labels


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.preview",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 drawn; 3 something could not be drawn; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", nargs="?", help="where labels are (path or fsspec URL)")
    add("--manifest", metavar="URI", help="instead of OUTPUT: draw the prompts of this manifest")
    add("--prompts", metavar="URI", help="flat table of the manifest's prompts")
    add("--video", action="append", metavar="ID", help="id of a video to draw; repeatable")
    add("--videos", nargs="+", metavar="ID", default=[], help="ids of videos to draw")
    add("--worst", type=int, metavar="N", help=f"draw the N most doubtful videos (default: {DRAWN})")
    add("--first", type=int, metavar="N", help=f"draw the first N videos of the manifest (default: {DRAWN})")
    add("--where", metavar="SQL", help='draw the videos for which this holds, e.g. "frames > 1000"')
    add("--folder", type=user_path, default=Path("preview"), help="local folder to write to (default: preview)")
    add("--only", choices=["film", "sheet"], help="draw only films or only sheets (default: both)")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    given.video = [*(given.video or []), *given.videos]
    _check(given)
    storage = open_storage(given)
    if given.manifest is not None:
        failed = draw_manifest(given, storage=storage)
        if given.prompts is None:
            console.say_next(["label", "--manifest", redact(given.manifest), "--output", "LABELS"])
        return 3 if failed else 0
    from pipeline.tables.query import open_labels  # loads much

    with open_labels(given.output, storage=storage) as labels:
        failed = draw(labels, _chosen(labels, given), given.folder, only=given.only, storage=storage)
    console.say_next(["report", redact(given.output)], ["review", redact(given.output), "--worst", "20"])
    return 3 if failed else 0


def draw(
    labels: "Labels", video_ids: Sequence[str], folder: Path, *, only: str | None, storage: "Storage | None" = None
) -> int:
    """Write film and contact sheet of each video into a folder and print their paths; returns how many failed."""
    from pipeline.video.content import open_labelled
    from pipeline.views.preview import contact_sheet, file_names, load_videos, save_sheet, write_film

    _make(folder)
    failed = 0
    for video_id, name in file_names(video_ids).items():
        (labelled,) = load_videos(labels, [video_id])
        path = folder / name
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


def draw_manifest(given: argparse.Namespace, *, storage: "Storage") -> int:
    """Write a sheet of the prompts of each chosen video and print its path; returns how many problems there are."""
    from pipeline.manifest import read_manifest
    from pipeline.manifest.normalized import normalized_notes
    from pipeline.storage import open_source
    from pipeline.views.preview import file_names, prompt_sheet, save_sheet

    manifest = read_manifest(
        given.manifest,
        prompts=given.prompts,
        on_bad_row="skip",
        open_file=lambda uri: open_source(uri, storage=storage)[0],
    )
    chosen, problems = _chosen_rows(manifest, given)
    _say([*problems, *(f"warning: {note}" for note in normalized_notes(manifest))])
    failed = len(problems)
    _make(given.folder)
    videos = manifest.videos(chosen)
    names = file_names(video.video_id for video in videos)
    for video in videos:
        path = given.folder / f"{names[video.video_id]}.png"
        try:
            sheet, missing = prompt_sheet(video, storage=storage)
            save_sheet(sheet, path)
        except (CorpusError, OSError) as error:
            failed += 1
            _say([f"row {video.row}, {video.video_id!r} cannot be drawn: {error}"])
            continue
        _say([str(path), *(f"    row {video.row}, {video.video_id!r}, not drawn: {line}" for line in missing)])
        failed += len(missing)
    return failed


def _chosen_rows(manifest: "Manifest", given: argparse.Namespace) -> tuple[list[int], list[str]]:
    """Rows of the manifest's table, and the chosen rows that break a rule, as text."""
    bad = {each.video_id: str(each) for each in manifest.bad_rows}
    if not given.video:
        first = DRAWN if given.first is None else given.first
        end = int(manifest.rows[first - 1]) if first < len(manifest) else math.inf
        return list(range(min(first, len(manifest)))), [str(each) for each in manifest.bad_rows if each.row < end]
    row_of = {video_id: at for at, video_id in enumerate(manifest.table["video_id"].to_pylist())}
    if unknown := [video_id for video_id in given.video if video_id not in row_of and video_id not in bad]:
        raise UsageError(f"--video {unknown[0]!r} is not in {given.manifest}")
    wanted = dict.fromkeys(given.video)
    return [row_of[each] for each in wanted if each in row_of], [bad[each] for each in wanted if each in bad]


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        console.out.print(line, markup=False)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--folder {folder} cannot be made: {error.strerror or error}") from None


def _check(given: argparse.Namespace) -> None:
    """Raise a UsageError for options that do not go together."""
    if (given.output is None) == (given.manifest is None):
        raise UsageError("give either OUTPUT, to draw labels, or --manifest, to draw prompts")
    others = ("worst", "where", "only") if given.manifest is not None else ("first", "prompts")
    for name in others:
        if getattr(given, name) is not None:
            needs = "draws labels of an OUTPUT" if given.manifest is not None else "belongs to --manifest"
            raise UsageError(f"--{name} {needs}; leave it out")
    for name in ("worst", "first"):
        if getattr(given, name) is not None and getattr(given, name) < 1:
            raise UsageError(f"--{name} must be at least 1 (got {getattr(given, name)})")
    if bool(given.video) + sum(getattr(given, name) is not None for name in ("worst", "first", "where")) > 1:
        raise UsageError("more than one of --video, --worst, --first and --where is given; allowed is one")


def _chosen(labels: "Labels", given: argparse.Namespace) -> list[str]:
    if given.video:
        return list(given.video)
    if given.where is not None:
        found = labels.sql(f"SELECT video_id FROM videos WHERE {given.where} ORDER BY video_id")
    else:
        worst = DRAWN if given.worst is None else given.worst
        found = labels.sql(f"SELECT video_id FROM videos ORDER BY doubt DESC NULLS LAST, video_id LIMIT {worst}")
    return [row[0] for row in found.fetchall()]


if __name__ == "__main__":
    start(main)
