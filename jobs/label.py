"""Label the videos of a manifest with SAM 2: RLE masks and scores, as Parquet parts and Delta tables.

Videos that are labelled already are left out, so the same command resumes a run that was cut short, and repairs one.
"""

import argparse
import sys
from typing import Any, get_args

from jobs import console, options
from jobs.command import add_storage, handle_errors, start
from pipeline.errors import UsageError
from pipeline.labels.key import Direction, Dtype, Parameters
from pipeline.runs.config import PARAMETER_NAMES, Device, OnBadRow, OnDamaged, RunConfig
from pipeline.runs.values import read_toml, toml_arguments


def parser() -> argparse.ArgumentParser:
    """The command line; its names are also those of the TOML file of --config."""
    p = argparse.ArgumentParser(
        prog="python -m jobs.label",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 all labelled; 3 finished, but videos failed or stay in quarantine, or rows were bad;\n"
        "4 stopped before the end; 2 wrong usage or manifest; 1 unexpected",
    )
    add = p.add_argument
    add("--config", metavar="FILE", help="TOML file of these options; the command line wins")
    add("--manifest", metavar="URI", help="Parquet manifest: one row a video, with its prompts (path or fsspec URL)")
    add("--prompts", metavar="URI", help="the prompts as a flat table instead: one row a video, object and frame")
    add("--output", metavar="URI", help="where labels go (path or fsspec URL)")
    add("--model", metavar="NAME", help="a hub id such as facebook/sam2.1-hiera-tiny, a folder, or embedded (a toy)")
    add("--revision", metavar="REV", help="branch, tag or commit of a hub model")
    add("--device", choices=get_args(Device), help="where models run (default: auto)")
    add("--dtype", choices=get_args(Dtype), help="precision; bfloat16 is by autocast (default: float32)")
    add("--direction", choices=get_args(Direction), help="way of propagation from the first prompt (default: forward)")
    add("--mask-threshold", type=float, metavar="X", help="a pixel is inside where its logit is above X (default: 0)")
    add("--max-hole-area", type=int, metavar="PX", help="fill holes of up to PX pixels (default: 0, off)")
    add("--max-sprinkle-area", type=int, metavar="PX", help="drop separate parts of up to PX pixels (default: 0, off)")
    add("--non-overlapping", action="store_true", default=None, help="give each pixel to one object at most")
    add("--actors", type=int, metavar="N", help="workers (default: one per GPU, or 2 on CPUs)")
    add("--cpus-per-actor", type=float, metavar="X", help="CPU cores an actor reserves (default: 1)")
    add("--gpus-per-actor", type=float, metavar="X", help="GPUs an actor reserves, e.g. 0.5 (default: 1, or 0 on CPUs)")
    add("--lanes", type=int, metavar="N", help="videos labelled in lock-step by one actor (default: by device)")
    add("--address", metavar="ADDR", help="Ray cluster to join, e.g. auto (default: a local Ray of its own)")
    add("--on-bad-row", choices=get_args(OnBadRow), help="stop on a bad manifest row, or leave it out (default: fail)")
    add("--on-damaged", choices=get_args(OnDamaged), help="label damaged videos as far as they go (default), or fail")
    add_storage(p)
    add("--check-drift", action="store_true", default=None, help="track back as well (twice the time): fills drift")
    add("--allow-uri", action="append", metavar="PREFIX", help="the manifest may name videos below PREFIX only; repeat")
    add("--checkpoint-every", dest="checkpoint_every_s", type=options.duration, metavar="TIME", help="default: 120s")
    add("--deadline-floor", dest="deadline_floor_s", type=options.duration, metavar="TIME", help="default: 15m a video")
    add("--grace", dest="grace_s", type=options.duration, metavar="TIME", help="to save work at a stop (default: 60s)")
    add("--stop-at", type=options.moment, metavar="TIME", help="save what is in hand and stop at 06:00, or an ISO time")
    add("--budget-gpu-hours", type=float, metavar="X", help="stop likewise after so many GPU hours")
    add("--sample", type=options.fraction, metavar="X%", help="label only this share of the videos, always the same")
    add(
        "--shard",
        type=options.shard,
        metavar="i/n",
        help="label only this part of the manifest; shards may run at once",
    )
    add("--max-relabel", type=options.fraction, metavar="X%", help="refuse to relabel more than this share")
    add("--dry-run", action="store_true", default=None, help="say what is pending and why, and label nothing")
    add("--no-publish", action="store_true", default=None, help="commit parts only; jobs.publish makes the tables")
    return p


def read_options(arguments: list[str]) -> tuple[RunConfig, bool]:
    """The run's configuration and whether it is a dry run.

    Raises:
        UsageError: An option is missing or not allowed.
    """
    p = parser()
    if path := p.parse_args(arguments).config:
        arguments = [*toml_arguments(read_toml(path), p, where=path), *arguments]
    given = {name: value for name, value in vars(p.parse_args(arguments)).items() if value is not None}
    given.pop("config", None)
    if missing := [f"--{name}" for name in ("manifest", "output", "model") if name not in given]:
        raise UsageError(f"{', '.join(missing)} missing; give each on the command line or in --config")
    dry_run = bool(given.pop("dry_run", False))
    values: dict[str, Any] = {"publish": not given.pop("no_publish", False)}
    values["allow_uri"] = tuple(given.pop("allow_uri", ()))
    values["parameters"] = Parameters(**{name: given.pop(name) for name in PARAMETER_NAMES if name in given})
    return RunConfig(**values, **given), dry_run


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    config, dry_run = read_options(sys.argv[1:] if arguments is None else arguments)
    from pipeline.runs.prepare import prepare  # these load Ray and torch: only once the options are right
    from pipeline.runs.run import label_corpus

    if dry_run:
        console.show_plan(prepare(config))
        return 0
    with console.Display() as display:
        report = label_corpus(config, watch=display.update)
    console.show_report(report)
    return report.exit_code


if __name__ == "__main__":
    start(main)
