"""What commands print: the plan of a dry run, and the report at the end of a run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.runs.summary import detection_lines, next_line, plan_lines, report_lines

if TYPE_CHECKING:  # only for types: importing these would load torch before --help is shown
    from pipeline.runs.prepare import Prepared
    from pipeline.runs.progress import RunReport

out = Console(highlight=False, soft_wrap=True)


def show_plan(prepared: "Prepared", *, price_per_hour: float | None = None, currency: str = "") -> None:
    """Print the plan of a dry run, with its price if the run has a calibration and GPUs a price."""
    for line in plan_lines(prepared, price_per_hour=price_per_hour, currency=currency):
        out.print(line, markup=False)
    if not len(prepared.plan.order):
        return
    if prepared.estimate is None and not prepared.config.detection:
        calibrate = f"python -m jobs.calibrate --model {prepared.config.model}"
        out.print(f"for hours and price: {calibrate}, then --calibration calibration.json", markup=False)
    out.print("next: the same command without --dry-run", markup=False)


def say_next(*commands: Sequence[str]) -> None:
    """Print what a user may run next: commands of `jobs` with their arguments."""
    out.print(next_line(*commands), markup=False)


def show_report(report: "RunReport") -> None:
    """Print the result of a run."""
    for line in report_lines(report):
        out.print(line, markup=False)


def show_detections(report: "RunReport") -> None:
    """Print the result of a run of detection."""
    for line in detection_lines(report):
        out.print(line, markup=False)
