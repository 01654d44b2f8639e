"""What commands print: the plan of a dry run, and the report at the end of a run."""

from typing import TYPE_CHECKING

from rich.console import Console

from pipeline.runs.summary import detection_lines, plan_lines, report_lines

if TYPE_CHECKING:  # only for types: importing these would load torch before --help is shown
    from pipeline.runs.prepare import Prepared
    from pipeline.runs.progress import RunReport

out = Console(highlight=False, soft_wrap=True)


def show_plan(prepared: "Prepared", *, price_per_hour: float | None = None, currency: str = "") -> None:
    """Print the plan of a dry run, with its price if the run has a calibration and GPUs a price."""
    for line in plan_lines(prepared, price_per_hour=price_per_hour, currency=currency):
        out.print(line, markup=False)


def show_report(report: "RunReport") -> None:
    """Print the result of a run."""
    for line in report_lines(report):
        out.print(line, markup=False)


def show_detections(report: "RunReport") -> None:
    """Print the result of a run of detection."""
    for line in detection_lines(report):
        out.print(line, markup=False)
