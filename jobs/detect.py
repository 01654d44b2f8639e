"""Find objects of some classes in videos with a detector: boxes, masks and scores as one table.

The table is OUTPUT/detections.parquet, one row a detection; a frame in which nothing was found is a row without a box.
Videos whose detections are there already are skipped, so the same command resumes an interrupted run. Other content,
weights, classes, looks or thresholds are detected again.

Models: DETR, RT-DETR, D-FINE and RF-DETR know the classes of their training; Grounding DINO, MM-Grounding-DINO, OWLv2,
OmDet-Turbo and SAM 3 (which also gives masks) take any class as text.
"""

import argparse
import sys
from dataclasses import fields
from typing import Any

from jobs import console, label
from jobs.command import handle_errors, start
from jobs.command_line import Parser, read_given, require, share_options
from pipeline.api.display import display_for
from pipeline.detection.families import EVERYTHING_THRESHOLD
from pipeline.detection.settings import DetectionParameters, parse_classes
from pipeline.runs.config import RunConfig

SHARED = (
    "--config", "--revision", "--device", "--actors", "--cpus-per-actor", "--gpus-per-actor", "--lanes", "--address",
    "--on-bad-row", "--on-damaged", "--storage", "--allow-uri", "--deadline-floor", "--grace", "--stop-at",
    "--budget-gpu-hours", "--sample", "--shard", "--dry-run",
)  # fmt: skip
"""Options that are those of jobs.label."""


def parser() -> argparse.ArgumentParser:
    """The command line; its names are also those of the TOML file of --config."""
    p = Parser(
        prog="python -m jobs.detect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 all detected; 3 finished, but videos failed or stay in quarantine, or rows were bad;\n"
        "4 stopped before the end; 2 wrong usage or table; 130 second Ctrl-C; 1 unexpected",
    )
    add = p.add_argument
    add("--videos", metavar="URI", help="folder of videos, or table (Parquet, CSV, JSON lines) of video_id, video_uri "
        "and other columns of manifests")  # fmt: skip
    add("--output", metavar="URI", help="where detections are written (path or fsspec URL)")
    add("--model", metavar="NAME", help="detector: hub id such as IDEA-Research/grounding-dino-tiny, folder, or "
        "embedded (a toy for the class shape); "
        "with --everything a tracker, such as facebook/sam2.1-hiera-tiny")  # fmt: skip
    add("--classes", metavar="LIST", help='names of classes separated by commas, such as "car, person"')
    add("--everything", action="store_true", default=None, help="find everything, of no class: SAM 2's mask generation "
        "from a grid of points")  # fmt: skip
    add("--at", metavar="WHEN", help="frames that are looked at: one per interval, such as 1s or 0.5s; keyframes, "
        "which decodes nothing else; or shots, the first of each shot (default: 1s)")  # fmt: skip
    add("--threshold", type=float, metavar="X", help="least score of a detection, 0 to 1 (default: by model, 0.2 to "
        f"0.5; with --everything a predicted IoU of {EVERYTHING_THRESHOLD})")  # fmt: skip
    share_options(p, label.parser(), SHARED)
    return p


def read_options(arguments: list[str]) -> tuple[RunConfig, bool]:
    """The run's configuration and whether it is a dry run.

    Raises:
        UsageError: An option is missing or not allowed.
    """
    given = read_given(parser(), arguments)
    require(given, "videos", "output", "model")
    dry_run = bool(given.pop("dry_run", False))
    values: dict[str, Any] = {"manifest": given.pop("videos"), "allow_uri": tuple(given.pop("allow_uri", ()))}
    detection = {field.name: given.pop(field.name) for field in fields(DetectionParameters) if field.name in given}
    if "classes" in detection:
        detection["classes"] = parse_classes(detection["classes"])
    return RunConfig(detection=DetectionParameters(**detection), **values, **given), dry_run


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    config, dry_run = read_options(sys.argv[1:] if arguments is None else arguments)
    from pipeline.detection.shots import check_installed  # imported late: they load Ray and PyAV
    from pipeline.runs.detection import read_videos
    from pipeline.runs.prepare import prepare
    from pipeline.runs.run import label_corpus
    from pipeline.storage import Storage

    storage = Storage.from_toml(config.storage)
    if config.detection and config.detection.at == "shots":
        check_installed()
    videos = read_videos(config.manifest, storage=storage, on_bad_row=config.on_bad_row)
    if dry_run:
        console.show_plan(prepare(config, manifest=videos))
        return 0
    with display_for() as display:
        report = label_corpus(config, watch=display.update, manifest=videos)
    console.show_detections(report)
    return report.exit_code


if __name__ == "__main__":
    start(main)
