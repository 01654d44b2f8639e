"""Score masks against a truth: J, F, J&F, recall and decay as the DAVIS 2017 benchmark defines them, and presence.

Masks and truth may each be a label output, any format that jobs.export writes with masks, or a Parquet table of masks
(video_id, object_id, frame_index, height, width, counts). With another label output as the truth, the score is the
agreement of two models.
"""

import argparse
import json
import math
from collections.abc import Callable
from typing import get_args

from rich.console import Console

from jobs.command import add_storage, handle_errors, open_storage, start
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
)
from pipeline.formats.location import Location
from pipeline.formats.opening import KINDS, open_masks
from pipeline.formats.sources import FrameProtocol
from pipeline.storage import Storage

SHOWN = 20
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
    add("--truth", required=True, metavar="URI", help="true masks: a label output, or masks in another format")
    add("--baseline", metavar="URI", help="second output, scored against the same truth for comparison")
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
    storage = open_storage(args)
    for uri, is_ours in ((args.json, is_summary), (args.csv, is_score_table)):
        _check_replaceable(uri, is_ours, storage)
    truth = open_masks(args.truth, kind=args.truth_kind, storage=storage)

    def score(uri: str, kind: str | None) -> Evaluation:
        return evaluate(
            open_masks(uri, kind=kind, where=args.where, storage=storage),
            truth,
            protocol=args.protocol,
            missing="skip" if args.where else "skip videos" if args.only_labelled else "empty",
            workers=args.workers,
        )

    evaluation = score(args.masks, args.kind)
    summary = summarise(evaluation, baseline=score(args.baseline, None) if args.baseline else None)
    show(summary)
    if args.json:
        _write(args.json, json.dumps(summary.to_dict(), indent=2) + "\n", storage)
    if args.csv:
        _write(args.csv, to_csv(evaluation.scores), storage)
    value = summary.overall.j_and_f
    if args.fail_under is not None and not value >= args.fail_under:
        err.print(f"J&F {value:.4f} is below the {args.fail_under:g} of --fail-under", markup=False)
        return 3
    return 3 if evaluation.problems else 0


def show(summary: Summary) -> None:
    """The table."""
    rows: list[tuple[str, Group | None]] = [("all", summary.overall)]
    for title, groups in (("by category", summary.by_category), ("by size", summary.by_size)):
        if len(groups) > 1:
            rows += [(title, None), *((f"  {group.name}", group) for group in groups)]
    width = max(12, *(len(name) for name, _ in rows))
    out.print(" " * width + "".join(name.rjust(len(name) + 2) for name in COLUMNS), markup=False)
    for name, group in rows:
        out.print(name.ljust(width) + (_cells(group) if group else ""), markup=False)
    evaluation = summary.evaluation
    out.print(f"J&F {_interval(summary.j_and_f)} over {summary.videos} videos; protocol {evaluation.protocol}")
    if comparison := summary.comparison:
        out.print(
            f"against the baseline's {comparison.baseline:.4f}: {_interval(comparison.difference, signed=True)} "
            f"over {comparison.masklets} masklets"
        )
    if summary.missing_frames:
        out.print(f"{summary.missing_frames} frames have no mask and count as empty")
    if videos := evaluation.missing_videos:
        out.print(f"{len(videos)} videos of the truth have no masks, such as {videos[0]!r}", markup=False)
    if evaluation.extra_videos:
        out.print(f"{evaluation.extra_videos} videos have masks but no truth and are not scored")
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
    return "".join(cell.rjust(len(name) + 2) for cell, name in zip(cells, COLUMNS, strict=True))


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{interval.mean:{sign}.4f} (95 % interval {interval.low:{sign}.4f} to {interval.high:{sign}.4f})"


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
