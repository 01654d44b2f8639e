"""Hand the most doubtful videos to a reviewer, and keep the corrections that come back.

python -m jobs.review OUTPUT --worst 200 --folder review      writes contact sheets and the current prompts
    ... look at review/sheets; in review/prompts.jsonl move a point or add a box on a later frame ...
python -m jobs.review apply OUTPUT review/prompts.jsonl       keeps what changed as corrections of OUTPUT

The player of jobs.report gives such corrections as JSON, too: `apply OUTPUT fixes.jsonl`, or `apply OUTPUT -` to paste.
Corrections are laid over every manifest from then on: the next jobs.label or jobs.nightly labels the corrected videos
again, and later runs keep them, also with the manifest as it was. Where a correction and a manifest both name an object
and frame, the correction wins. All commands:

OUTPUT          write the most doubtful videos to a folder (all options below)
apply           keep changed prompts as corrections: an edited prompts.jsonl, or JSON of a report's player
list            show the corrections of an output, also those that were removed
remove          put corrections out of force; the next run returns to the manifest's prompts
export          write the corrected videos with all their prompts, as JSON lines or as a manifest
"""

import argparse
import difflib
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, open_store, start
from jobs.command_line import Parser
from pipeline.errors import CorpusError, UsageError
from pipeline.runs.values import user_path
from pipeline.views.words import count

if TYPE_CHECKING:  # only for types: --help is shown without loading pyarrow
    from pipeline.runs.corrections import Correction

SHOWN = 20
CODES = "exit codes: 0 done; 3 done, but some videos are left out; 2 wrong usage; 1 unexpected"


def parser() -> argparse.ArgumentParser:
    """The command line of a review; the other commands have their own."""
    p = Parser(
        prog="python -m jobs.review",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=CODES,
    )
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    add("--worst", type=int, default=200, metavar="N", help="number of videos, most doubtful first (default: 200)")
    add("--folder", type=user_path, default=Path("review"), help="local folder to write to (default: review)")
    add_storage(p)
    return p


def command_parser(command: str) -> argparse.ArgumentParser:
    """The command line of apply, list, remove or export."""
    about = {
        "apply": "Keep changed prompts as corrections: the prompts.jsonl of a review, or JSON of a report's player.",
        "list": "Show the corrections of an output, oldest first, also those that were removed.",
        "remove": "Put corrections out of force; the next run returns to the prompts of the manifest.",
        "export": "Write the corrected videos with all their prompts, to be merged into a manifest.",
    }
    p = Parser(prog=f"python -m jobs.review {command}", description=about[command], epilog=CODES)
    add = p.add_argument
    add("output", metavar="OUTPUT", help="where labels are (path or fsspec URL)")
    if command == "apply":
        add(
            "fixes",
            metavar="FIXES",
            nargs="+",
            help="prompts.jsonl of a review with corrected prompts, or JSON that the player of a report gave; - reads "
            "the standard input",
        )
    if command == "export":
        add("file", metavar="FILE", type=user_path, help="local file to write: .jsonl, or .parquet for a manifest")
    if command == "remove":
        add("names", nargs="*", metavar="NAME", help="names of corrections, as list shows them")
        add("--all", action="store_true", help="all corrections of the output")
    if command != "apply":
        add("--video", action="append", default=[], metavar="ID", help="only the corrections of this video; repeatable")
    if command in ("apply", "remove"):
        add("--who", metavar="NAME", help="name recorded with the change (default: USER@HOST)")
        add("--dry-run", action="store_true", help="print what would change; change nothing")
    add_storage(p)
    return p


def parse(arguments: list[str]) -> tuple[Callable[[argparse.Namespace], int], argparse.Namespace]:
    """What to do, and with which options."""
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "apply": apply, "list": show, "remove": remove, "export": export,
    }  # fmt: skip
    if arguments and arguments[0] in commands:
        return commands[arguments[0]], command_parser(arguments[0]).parse_args(arguments[1:])
    if len(arguments) > 1 and not any(each.startswith("-") for each in arguments[:2]):
        near = difflib.get_close_matches(arguments[0], commands, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(
            f"{arguments[0]!r} is no command of jobs.review{hint}; commands are {', '.join(commands)}; without a "
            "command the first argument is OUTPUT, and options follow it"
        )
    return review, parser().parse_args(arguments)


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    run, given = parse(sys.argv[1:] if arguments is None else arguments)
    return run(given)


def review(given: argparse.Namespace) -> int:
    """Write the most doubtful videos to a folder."""
    from pipeline.runs.corrections import current_prompts, read_corrections  # imported late: these load DuckDB
    from pipeline.tables.query import open_labels
    from pipeline.views.review import write_review

    storage, store = open_storage(given), open_store(given)
    with open_labels(store) as labels:
        done = write_review(
            labels,
            given.folder,
            worst=given.worst,
            storage=storage,
            correct=current_prompts(read_corrections(store)),
        )
    _say_left_out(done.left_out)
    console.out.print(
        f"{count(len(done.video_ids), 'video')}: see {given.folder}/sheets, correct {given.folder}/prompts.jsonl;\n"
        f"python -m jobs.review apply {given.output} {given.folder}/prompts.jsonl\n"
        f"python -m jobs.label --manifest {given.folder}/manifest.parquet --output {given.output} ... "
        "(or let the next night label them)",
        markup=False,
    )
    return 3 if done.left_out else 0


def apply(given: argparse.Namespace) -> int:
    """Keep corrections."""
    from pipeline.runs.corrections import apply_fixes, read_fixes

    fixes, store = [fix for path in given.fixes for fix in read_fixes(path)], open_store(given)
    done = apply_fixes(store, fixes, who=_who(given), now=datetime.now(UTC), dry_run=given.dry_run)
    _say_left_out(done.left_out)
    for each in done.corrections[:SHOWN]:
        console.out.print(f"{each.video_id!r}: {each.summary()}", markup=False)
    verb = "would be corrected" if given.dry_run else "corrected"
    videos = len({each.video_id for each in done.corrections})
    console.out.print(f"{count(videos, 'video')} {verb}, {done.unchanged} unchanged", markup=False)
    if done.corrections and not given.dry_run:
        console.out.print("the next jobs.label or night labels them again", markup=False)
    if done.categories_only:
        console.out.print(
            f"{len(done.categories_only)} of them change nothing but a category: categories are not in the label key, "
            "so the tables keep theirs until the video is labelled again for another reason"
        )
    return 3 if done.left_out else 0


def show(given: argparse.Namespace) -> int:
    """List corrections."""
    from pipeline.runs.corrections import read_corrections

    found = read_corrections(open_store(given), among=given.video or None)
    for history in found.history.values():
        for each in history:
            removed = f"  (removed by {each.taken_back})" if each.taken_back else ""
            console.out.print(f"{each.name}  {each.video_id!r}  {each.time}  {each.who}{removed}", markup=False)
            console.out.print(f"    {each.summary()}", markup=False)
    for video_id, reason in found.damaged.items():
        console.out.print(f"{video_id!r} has a correction that cannot be used: {reason}", markup=False)
    console.out.print(f"{count(len(found.in_force()), 'correction')} in force")
    return 3 if found.damaged else 0


def remove(given: argparse.Namespace) -> int:
    """Put corrections out of force."""
    from pipeline.runs.corrections import read_corrections, remove_corrections

    if not (given.names or given.video or given.all):
        raise UsageError("no corrections chosen; give their names, --video or --all")
    store = open_store(given)
    found = read_corrections(store, among=given.video or None).in_force()
    names = {each.name for each in found}
    if unknown := [name for name in given.names if name not in names]:
        raise UsageError(f"no correction {unknown[0]!r} is in force; jobs.review list shows them")
    chosen = [each for each in found if not given.names or each.name in given.names]
    if not given.dry_run:
        remove_corrections(store, chosen, who=_who(given), now=datetime.now(UTC))
    verb = "would be removed" if given.dry_run else "removed"
    console.out.print(f"{count(len(chosen), 'correction')} {verb}; the next run returns to the manifest's prompts")
    return 0


def export(given: argparse.Namespace) -> int:
    """Write the corrected videos with all their prompts."""
    from pipeline.runs.corrections import overlay_prompts, read_corrections
    from pipeline.tables.query import open_labels
    from pipeline.views.preview import load_videos
    from pipeline.views.review import manifest_row, write_manifest_rows, write_prompt_lines

    if given.file.suffix not in (".jsonl", ".parquet"):
        raise UsageError(f"{given.file} must end in .jsonl or .parquet")
    if given.file.exists():
        raise UsageError(f"{given.file} is there already; choose another name")
    storage, store = open_storage(given), open_store(given)
    by_video: dict[str, list[Correction]] = {}
    for each in read_corrections(store, among=given.video or None).in_force():
        by_video.setdefault(each.video_id, []).append(each)
    rows, left_out = [], []
    with open_labels(store) as labels:
        for video_id, corrections in by_video.items():
            try:
                (labelled,) = load_videos(labels, [video_id])
                prompts = overlay_prompts(labelled.prompts, corrections)
                rows.append(manifest_row(labelled.video, prompts, storage=storage))
            except CorpusError as error:
                left_out.append(f"{video_id!r}: {error}")
        if given.file.suffix == ".jsonl":
            write_prompt_lines(rows, given.file)
        else:
            write_manifest_rows(labels, rows, given.file)
    _say_left_out(left_out)
    console.out.print(f"{count(len(rows), 'corrected video')} written to {given.file}", markup=False)
    return 3 if left_out else 0


def _who(given: argparse.Namespace) -> str:
    from pipeline.runs.corrections import current_user

    return given.who or current_user()


def _say_left_out(left_out: "tuple[str, ...] | list[str]") -> None:
    for line in left_out[:SHOWN]:
        console.out.print(f"left out: {line}", markup=False)
    if len(left_out) > SHOWN:
        console.out.print(f"and {len(left_out) - SHOWN} more")


if __name__ == "__main__":
    start(main)
