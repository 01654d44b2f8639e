"""Score masks against a truth: J, F, J&F, recall and decay as the DAVIS 2017 benchmark defines them, and presence.

Masks and truth may each be a label output, any format that jobs.export writes with masks, or a Parquet table of masks
(video_id, object_id, frame_index, height, width, counts).

With --against, two label outputs of different models are compared: the scores are their agreement on the videos that
both have, and --review writes the videos on which they disagree most.

With --staged, the labels of OUTPUT that are committed but not published are scored, before jobs.publish shows them:

    python -m jobs.evaluate OUTPUT --staged --against published [--review FOLDER]
"""

import argparse
import json
import math
from collections.abc import Callable
from functools import partial
from typing import get_args

from rich.console import Console

from jobs.command import add_storage, counted, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.formats.evaluate import (
    Evaluation,
    Group,
    Interval,
    Summary,
    evaluate,
    is_score_table,
    is_summary,
    summarise,
    to_csv,
    worst_videos,
)
from pipeline.formats.location import Location
from pipeline.formats.opening import KINDS, LABELS, open_masks, open_staged_masks
from pipeline.formats.sources import FrameProtocol, MaskSource
from pipeline.runs.values import user_path
from pipeline.storage import Storage, Store

SHOWN = 20
PUBLISHED = "published"
"""Names the tables of OUTPUT where its staged labels are scored."""
COLUMNS = (
    "masklets",
    " frames",
    "   J&F",
    "     J",
    "J recall",
    "J decay",
    "     F",
    "F recall",
    "F decay",
    "presence",
)
INTERVAL = "  95 % interval of J&F"

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 scored; 3 scored, but below --fail-under, or some of it could not be read or compared;\n"
        "2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("masks", metavar="OUTPUT", help="masks to score: a label output, or masks in another format")
    against = p.add_mutually_exclusive_group(required=True)
    against.add_argument("--truth", metavar="URI", help="true masks: a label output, or masks in another format")
    against.add_argument("--against", metavar="OUTPUT", help="label output of another model, to measure the agreement; "
        "with --staged also published, the tables of the same output")  # fmt: skip
    add("--baseline", metavar="URI", help="second output, scored against the same truth for comparison; with --staged "
        "also published")  # fmt: skip
    add("--staged", action="store_true", help="score the labels of runs with --no-publish that are not published yet")
    add("--run", metavar="RUN", help="with --staged: those of this run (default: of all such runs, the last one first)")
    add("--kind", choices=KINDS, help="format of OUTPUT (default: detected from the files)")
    add("--truth-kind", choices=KINDS, help="format of the truth (default: detected from the files)")
    add(
        "--protocol",
        choices=get_args(FrameProtocol),
        help="frames that count: davis leaves out the first and last of a video, sav those of each object, all none "
        "(default: sav for SA-V JSON, all between label outputs, else davis)",
    )
    add("--where", metavar="SQL", help="score only these rows of a label output, e.g. \"category = 'dog'\"")
    add("--only-labelled", action="store_true", help="skip videos without masks; otherwise they score as empty masks")
    add("--workers", type=int, metavar="N", help="number of processes (default: one per core)")
    add("--json", metavar="URI", help="file to write the summary to")
    add("--csv", metavar="URI", help="file to write one line per masklet to")
    add("--review", metavar="FOLDER", type=user_path, help="with --against: local folder for contact sheets of both "
        "outputs, and the prompts, of the videos on which they disagree most")  # fmt: skip
    add("--worst", type=int, default=20, metavar="N", help="number of videos of --review (default: 20)")
    add("--fail-under", type=float, metavar="X", help="exit with 3 when J&F is below X (0 to 1)")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(arguments)
    if args.fail_under is not None and not 0 <= args.fail_under <= 1:
        raise UsageError(f"--fail-under must be 0 to 1 (got {args.fail_under:g})")
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers must be at least 1 (got {args.workers})")
    if args.worst < 1:
        raise UsageError(f"--worst must be at least 1 (got {args.worst})")
    if args.review and not args.against:
        raise UsageError("--review needs --against: it shows where two outputs disagree")
    if args.run and not args.staged:
        raise UsageError("--run needs --staged")
    if args.staged and args.kind not in (None, LABELS):
        raise UsageError(f"--staged scores a label output; leave out --kind {args.kind}")
    if args.against and args.only_labelled:
        raise UsageError("--against scores the videos that both outputs have; leave out --only-labelled")
    storage = open_storage(args)
    for uri, is_ours in ((args.json, is_summary), (args.csv, is_score_table)):
        _check_replaceable(uri, is_ours, storage)
    truth = open_masks(_named(args, args.truth or args.against), kind=args.truth_kind, storage=storage)

    def score(masks: MaskSource) -> Evaluation:
        return evaluate(
            masks,
            truth,
            protocol=args.protocol,
            missing="skip" if args.where else "skip videos" if args.only_labelled or args.against else "empty",
            workers=args.workers,
        )

    if args.staged:
        masks = open_staged_masks(args.masks, run=args.run, where=args.where, storage=storage)
    else:
        masks = open_masks(args.masks, kind=args.kind, where=args.where, storage=storage)
    evaluation, baseline = score(masks), None
    if args.baseline:
        baseline = score(open_masks(_named(args, args.baseline), where=args.where, storage=storage))
    summary = summarise(evaluation, baseline=baseline)
    show(summary, against=args.against)
    if args.review:
        _review(args, worst_videos(evaluation.scores, args.worst), storage)
    if args.json:
        _write(args.json, json.dumps(summary.to_dict(), indent=2) + "\n", storage)
    if args.csv:
        _write(args.csv, to_csv(evaluation.scores), storage)
    value = summary.overall.j_and_f
    if args.fail_under is not None and not value >= args.fail_under:
        err.print(f"J&F {value:.4f} is below the {args.fail_under:g} of --fail-under", markup=False)
        return 3
    return 3 if evaluation.problems else 0


def show(summary: Summary, *, against: str | None = None) -> None:
    """Print the table. `against` is the other output where the scores are an agreement."""
    rows: list[tuple[str, Group | None]] = [("all", summary.overall)]
    for title, groups in (("by category", summary.by_category), ("by size", summary.by_size)):
        if len(groups) > 1:
            rows += [(title, None), *((f"  {group.name}", group) for group in groups)]
    width = max(12, *(len(name) for name, _ in rows))
    out.print(" " * width + "".join(name.rjust(len(name) + 2) for name in COLUMNS) + INTERVAL, markup=False)
    for name, group in rows:
        out.print(name.ljust(width) + (_cells(group) if group else ""), markup=False)
    evaluation = summary.evaluation
    measure = "agreement in J&F" if against else "J&F"
    interval = _interval(summary.j_and_f)
    out.print(f"{measure} {interval} over {counted(summary.videos, 'video')}; protocol {evaluation.protocol}")
    if comparison := summary.comparison:
        out.print(
            f"against the baseline's {comparison.baseline:.4f}: {_interval(comparison.difference, signed=True)} "
            f"over {comparison.masklets} masklets"
        )
    if summary.missing_frames:
        out.print(f"{summary.missing_frames} frames have no mask and count as empty")
    missing, extra = evaluation.missing_videos, evaluation.extra_videos
    if against:
        out.print(f"only in {against}, not compared: {counted(len(missing), 'video')}", markup=False)
    elif missing:
        out.print(
            f"of the truth, without masks: {counted(len(missing), 'video')}, such as {missing[0]!r}", markup=False
        )
    if extra:
        where = f"not in {against}" if against else "with masks but no truth"
        out.print(f"{where}, not scored: {counted(extra, 'video')}", markup=False)
    for problem in evaluation.problems[:SHOWN]:
        out.print(f"not scored: {problem}", markup=False)
    if len(evaluation.problems) > SHOWN:
        out.print(f"... and {len(evaluation.problems) - SHOWN} more; --json has all")


def _cells(group: Group) -> str:
    measures = (
        group.j_and_f, group.j_mean, group.j_recall, group.j_decay,
        group.f_mean, group.f_recall, group.f_decay, group.presence,
    )  # fmt: skip
    values = ["-" if math.isnan(value) else f"{value:.4f}" for value in measures]
    cells = (str(group.masklets), str(group.frames), *values)
    interval = group.interval
    known = "" if math.isnan(interval.low) else f"  {interval.low:.4f} to {interval.high:.4f}"
    return "".join(cell.rjust(len(name) + 2) for cell, name in zip(cells, COLUMNS, strict=True)) + known


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if math.isnan(interval.low):
        return f"{interval.mean:{sign}.4f} (no interval: that needs two videos)"
    return f"{interval.mean:{sign}.4f} (95 % interval {interval.low:{sign}.4f} to {interval.high:{sign}.4f})"


def _review(args: argparse.Namespace, videos: list[str], storage: Storage) -> None:
    """Write contact sheets of both outputs for these videos, by the same ranks, and the prompts."""
    from pipeline.tables.query import open_labels  # imported late: it loads DuckDB
    from pipeline.tables.staged import open_staged
    from pipeline.views.review import write_review

    found, other = (Store(uri, storage=storage) for uri in (args.masks, _named(args, args.against)))
    first = partial(open_staged, found, run=args.run) if args.staged else partial(open_labels, found)
    for opened, folder in ((first, args.review), (partial(open_labels, other), args.review / "against")):
        with opened() as labels:
            done = write_review(labels, folder, worst=args.worst, videos=videos, storage=storage)
        for line in done.left_out[:SHOWN]:
            out.print(f"left out: {line}", markup=False)
    out.print(
        f"the {len(videos)} videos that disagree most: sheets of {args.masks} in {args.review}/sheets, of "
        f"{args.against} in {args.review}/against/sheets",
        markup=False,
    )


def _named(args: argparse.Namespace, uri: str) -> str:
    """The output that an option names; `published` is OUTPUT itself with --staged."""
    return str(args.masks) if args.staged and uri == PUBLISHED else uri


def _check_replaceable(uri: str | None, is_ours: Callable[[bytes], bool], storage: Storage) -> None:
    if uri is None:
        return
    at = Location.of(uri, storage)
    found = at.store.read_or_none(at.path)
    if found is not None and not is_ours(found):
        raise UsageError(f"{at} is not an earlier result of this command; choose another name")


def _write(uri: str, text: str, storage: Storage | None) -> None:
    at = Location.of(uri, storage)
    at.store.put(at.path, text.encode())


if __name__ == "__main__":
    start(main)
