"""Output of commands: a live bar on a terminal, log lines elsewhere, and a summary at the end."""

import logging
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from jobs.command import counted
from pipeline.views.words import duration, money, short

if TYPE_CHECKING:  # only for types: importing these would load torch before --help is shown
    from pipeline.runs.estimate import Estimate
    from pipeline.runs.prepare import Prepared
    from pipeline.runs.progress import Progress, RunReport

log = logging.getLogger("label")

LINE_EVERY_S = 10.0
FAILURES_SHOWN = 20

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Display:
    """Shows a run's progress: a bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._live = Live(console=err, refresh_per_second=4) if err.is_terminal else None
        self._shown = 0.0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._live:
            self._live.update("")
            self._live.__exit__(*error)

    def update(self, progress: "Progress") -> None:
        """Show the progress of the run."""
        if self._live:
            rows = Table.grid()
            rows.add_row(ProgressBar(progress.cost or 1, progress.cost_done, width=60))
            rows.add_row(_line(progress))
            self._live.update(rows)
        elif time.time() - self._shown >= LINE_EVERY_S:
            self._shown = time.time()
            log.info(_line(progress))


def _line(progress: "Progress") -> str:
    spent = max(progress.now - progress.started, 1e-9)
    failed = sum(progress.failed.values())
    eta = "?" if progress.eta_s is None else duration(progress.eta_s)
    return (
        f"{progress.done + failed}/{progress.videos} videos, {progress.in_flight} in flight, {progress.workers} actors"
        f", {progress.frames / spent:.1f} frames/s, {progress.masks / spent:.1f} masks/s, {failed} failed, ETA {eta}"
    )


def show_plan(prepared: "Prepared", *, price_per_hour: float | None = None, currency: str = "") -> None:
    """Print the plan of a dry run, with its price if the run has a calibration and GPUs a price."""
    plan = prepared.plan
    if not len(plan.order):
        out.print(f"nothing pending: {plan.count('labelled')} videos are labelled")
    else:
        frames, objects = plan.total("frames"), plan.total("objects")
        out.print(f"{len(plan.order)} videos pending, about {frames:.0f} frames and {objects:.0f} objects")
        for reason, count in plan.reasons().items():
            out.print(f"  {count:8} {reason}", markup=False)
        out.print(f"{plan.count('labelled')} labelled")
        if prepared.estimate:
            out.print(_estimate_line(prepared.estimate, price_per_hour, currency), markup=False)
    for note in prepared.notes:
        out.print(note, markup=False)
    for state, meaning in (("quarantined", "in quarantine"), ("unreadable", "whose source cannot be found")):
        if plan.count(state):
            out.print(f"{plan.count(state)} {meaning}")
    for row in prepared.manifest.bad_rows[:FAILURES_SHOWN]:
        out.print(f"bad row left out: {row}", markup=False)


def _estimate_line(estimate: "Estimate", price_per_hour: float | None, currency: str) -> str:
    hours = estimate.gpu_hours or estimate.actor_hours
    amount = (
        ""
        if price_per_hour is None
        else f", {money(estimate.price(price_per_hour), currency).strip()} at {price_per_hour:g} an hour"
    )
    return (
        f"estimate: {duration(estimate.seconds)} with {counted(estimate.actors, 'actor')}, {short(hours)} "
        f"{'GPU' if estimate.gpu_hours else 'actor'} hours{amount}; measured on {estimate.device} with "
        f"{counted(estimate.lanes, 'lane')}; actors start in {duration(estimate.start_s)} in addition"
    )


def show_report(report: "RunReport") -> None:
    """Print the result of a run: counts, failures with their reasons, and where the labels are."""
    if not report.planned["pending"]:
        out.print(f"nothing pending: {report.planned['labelled']} videos were labelled before")
    else:
        out.print(
            f"labelled {report.labelled} of {report.planned['pending']} pending videos in {duration(report.seconds)}: "
            f"{report.frames} frames, {report.masks} masks"
        )
        for reason, count in report.reasons.items():
            out.print(f"  {count:6} {reason}", markup=False)
    if report.truncated or report.damaged:
        out.print(
            f"of these {report.truncated} truncated, {report.damaged} damaged (columns truncated and damaged_packets "
            "of the videos table)"
        )
    for note in report.notes:
        out.print(note, markup=False)
    if report.left:
        out.print(f"stopped before the end: {report.left} videos are left; the same command continues")
    if report.failures:
        out.print(f"{len(report.failures)} videos failed or stay in quarantine:")
    for failure in report.failures[:FAILURES_SHOWN]:
        out.print(f"  {failure.video_id!r} ({failure.failure_class}): {failure.message}", markup=False)
    if len(report.failures) > FAILURES_SHOWN:
        out.print(f"  ... and {len(report.failures) - FAILURES_SHOWN} more in {report.output}/failures", markup=False)
    for row in report.bad_rows[:FAILURES_SHOWN]:
        out.print(f"bad row left out: {row}", markup=False)
    if report.published is None:
        out.print(f"parts are in {report.output}/parts; jobs.publish makes the tables", markup=False)
    elif report.published.videos or report.planned["labelled"]:
        out.print(f"tables masks, masklets and videos are in {report.output}", markup=False)
