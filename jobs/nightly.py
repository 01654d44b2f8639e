"""Label the pending videos of tonight's manifests, publish the labels, and write one report page.

nightly.toml; manifests, output and label are required:

    manifests = "s3://bucket/manifests/date=*/*.parquet"   # or a list; the latest row of a video counts
    output = "s3://bucket/labels"
    timezone = "Europe/Berlin"                             # of stop_at and of the nights' names (default: UTC)
    stop_at = "06:00"                                      # default: no stop time
    budget_gpu_hours = 40                                  # per night, all attempts together (default: no limit)
    price_per_gpu_hour = 2.10                              # default: no costs on the page, and none of CPU hours
    currency = "EUR"                                       # default: USD
    compare_nights = 14                                    # earlier nights on the page (default: 14)
    optimize_after = 24                                    # table files before tables are optimized (default: 24)
    [label]                                                # options of jobs.label
    model = "facebook/sam2.1-hiera-large"
    max_relabel = "5%"
    [detect]                                               # optional: finds objects before labelling, as jobs.detect
    model = "IDEA-Research/grounding-dino-tiny"            # then rows need no prompts
    classes = "car, person"
    at = "1s"                                              # and threshold, both optional
    [retry]                                                # age at which failures of a class are retried
    oom = "7d"
    [links]                                                # addresses that the page links to
    report = "https://reports.example.org/corpus"

The report is in OUTPUT/nights/NIGHT/report.html and report.json. Running the same night again continues it.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jobs import console, label
from jobs.command import handle_errors, start
from jobs.command_line import Parser
from pipeline.api.display import display_for
from pipeline.runs.config import RunConfig
from pipeline.runs.nightly.settings import NightSettings, read_settings
from pipeline.runs.values import toml_arguments
from pipeline.storage import redact
from pipeline.storage.paths import night_page_path
from pipeline.views.words import count, duration


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.nightly",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 finished without new failures (known ones of earlier nights may remain);\n"
        "3 finished, but videos failed or rows were bad that were not so in earlier nights;\n"
        "4 stopped before the end; 2 wrong usage or manifest; 130 second Ctrl-C; 1 unexpected",
    )
    add = p.add_argument
    add("--config", metavar="FILE", required=True, help="nightly.toml, as above")
    add("--stop-at", metavar="HH:MM", help="time of day to checkpoint and stop; overrides stop_at")
    add("--budget-gpu-hours", type=float, metavar="X", help="GPU hours of the night; overrides budget_gpu_hours")
    add("--night", metavar="DATE", help="evening on which the night begins (default: now, from noon to noon)")
    add("--address", metavar="ADDR", help="Ray cluster to join, e.g. auto (default: RAY_ADDRESS, or a local Ray)")
    add("--dry-run", action="store_true", help="print what is pending and why; label nothing")
    return p


def read_options(options: argparse.Namespace) -> NightSettings:
    """The settings of the file, overridden by the command line.

    Raises:
        UsageError: A setting is missing, unknown or not allowed.
    """
    settings = read_settings(options.config, run_config=_run_config)
    names = ("stop_at", "budget_gpu_hours")
    settings = replace(settings, **{n: getattr(options, n) for n in names if getattr(options, n) is not None})
    if address := options.address or os.environ.get("RAY_ADDRESS"):
        settings = replace(settings, run=replace(settings.run, address=address))
    return settings


def _run_config(table: Mapping[str, Any]) -> RunConfig:
    return label.read_options(toml_arguments(table, label.parser(), where="[label]"))[0]


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = parser().parse_args(arguments)
    settings = read_options(options)
    from pipeline.runs.nightly import night  # these load much: only once the settings are right
    from pipeline.views.night import verdict

    if options.dry_run:
        prepared = night.plan_night(settings)[1]
        price = settings.price(gpus=bool(prepared.estimate and prepared.estimate.gpu_hours))
        console.show_plan(prepared, price_per_hour=price, currency=settings.currency)
        return 0
    with display_for() as display:
        record = night.run_night(settings, night=options.night, watch=display.update)
    labelled, seconds = record["labelled"], record["seconds"]
    console.out.print(f"night {record['night']}, attempt {record['attempt']}: {verdict(record)[1]}", markup=False)
    console.out.print(
        f"labelled {count(labelled, 'video')} in {duration(seconds)}: {count(record['frames'], 'frame')}, "
        f"{count(record['masks'], 'mask')}"
    )
    place = redact(settings.run.output.rstrip("/"))
    console.out.print(f"report: {place}/{night_page_path(record['night'])}", markup=False)
    if labelled and record["published"]:
        console.say_next(["review", place, "--worst", "20"])
    return int(record["exit_code"])


if __name__ == "__main__":
    start(main)
