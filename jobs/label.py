"""Label the videos of a manifest with SAM 2: RLE masks and scores, as Parquet parts and Delta tables.

Videos that are already labelled are skipped, so the same command resumes an interrupted run. Corrections kept with the
output (jobs.review) replace prompts of the manifest. Ctrl-C or SIGTERM checkpoints in-flight videos and stops; a second
Ctrl-C exits immediately.

A single clip needs no manifest; its labels and an overlay film are written to the current folder:

    python -m jobs.label clip.mp4 --point 120,90 --box 20,30,90,110
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jobs import console, options
from jobs.command import add_storage, handle_errors, start
from jobs.command_line import Parser, read_given, require
from jobs.detection_options import DETECTIONS_HELP, add_reading, take_reading
from pipeline.api.display import display_for
from pipeline.detection.settings import DetectionParameters, parse_classes
from pipeline.detection.thresholds import Association
from pipeline.errors import UsageError
from pipeline.labels.key import Direction, Dtype, Parameters
from pipeline.runs.config import (
    ASSOCIATION_NAMES,
    PARAMETER_NAMES,
    DetectFirst,
    Device,
    FindDuplicates,
    OnBadRow,
    OnDamaged,
    RunConfig,
)
from pipeline.tracking import EngineKind, OnDrift

if TYPE_CHECKING:  # only for types: importing these takes long, and --help is shown without them
    from pipeline.api.clip import Clip
    from pipeline.storage import Storage


def parser() -> argparse.ArgumentParser:
    """The command line; its names are also those of the TOML file of --config."""
    p = Parser(
        prog="python -m jobs.label",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 all labelled; 3 finished, but videos failed or stay in quarantine, or rows were bad;\n"
        "4 stopped before the end; 2 wrong usage or manifest; 130 second Ctrl-C; 1 unexpected",
    )
    add = p.add_argument
    add("clip", nargs="?", metavar="CLIP", help="a single video to label without a manifest (path or fsspec URL)")
    add("--point", action="append", nargs="+", metavar="X,Y", help="an object of CLIP by points on it, or off it as "
        "X,Y,0; repeatable, one object each")  # fmt: skip
    add("--box", action="append", metavar="X1,Y1,X2,Y2", help="an object of CLIP by its box; repeatable")
    add("--at", metavar="FRAME|TIME", help="prompted frame of CLIP, such as 30 or 1.5s (default: the first); with "
        "--detect an interval between looks")  # fmt: skip
    add("--config", metavar="FILE", help="TOML file of these options; the command line wins")
    add("--manifest", metavar="URI", help="Parquet manifest: one row per video, with its prompts (path or fsspec URL)")
    add("--prompts", metavar="URI", help="flat table of prompts instead: one row per video, object and frame")
    add("--detections", metavar="URI", help=f"{DETECTIONS_HELP}. Objects begin from them and need no prompts; a column "
        "detections of the manifest wins")  # fmt: skip
    add("--detect", metavar="LIST", help='first find objects of these classes, such as "car, person", then track '
        "them; --manifest may be a folder of videos; the detections stay in OUTPUT/detections")  # fmt: skip
    add("--detector", metavar="NAME", help="with --detect: model of jobs.detect; --at then says when it looks, such as "
        "1s, keyframes or shots (default: 1s)")  # fmt: skip
    add("--threshold", type=float, metavar="X", help="with --detect: least score of a detection (default: by model)")
    add("--output", metavar="URI", help="where labels are written (path or fsspec URL)")
    add("--model", metavar="NAME", help="hub id such as facebook/sam2.1-hiera-tiny, folder, or embedded (a toy model)")
    add("--revision", metavar="REV", help="branch, tag or commit of a hub model (default: main)")
    add("--device", choices=get_args(Device), help="device that runs the model (default: auto)")
    add("--engine", choices=get_args(EngineKind), help="code that computes the masks: fast, or reference, which is "
        "transformers' own and slow; the masks are the same (default: fast)")  # fmt: skip
    add("--on-drift", choices=get_args(OnDrift), help="if the installed transformers gives other results than the fast "
        "engine: use the reference engine, or fail (default: fallback)")  # fmt: skip
    add("--dtype", choices=get_args(Dtype), help="precision; bfloat16 uses autocast (default: float32)")
    add("--direction", choices=get_args(Direction), help="propagation from the first prompt (default: forward)")
    add("--mask-threshold", type=float, metavar="X", help="logit above which a pixel is in the mask (default: 0)")
    add("--max-hole-area", type=int, metavar="PX", help="fill holes of up to PX pixels (default: 0, off)")
    add("--max-sprinkle-area", type=int, metavar="PX", help="drop separate parts of up to PX pixels (default: 0, off)")
    add("--non-overlapping", action="store_true", default=None, help="give each pixel to at most one object")
    add("--label-fps", type=float, metavar="X", help="label X frames a second, and prompted frames (default: all "
        "frames)")  # fmt: skip
    add("--every", metavar="N", help="the same as a distance: 3f labels every third frame, 0.5s two frames a second")
    add("--max-conditioning-frames", type=int, metavar="N", help="attend to the N latest prompted frames alone "
        "(default: all prompted frames, also later ones; with detections 4)")  # fmt: skip
    add("--retire-after", dest="retire_after_s", type=_retire_after, metavar="TIME", help="an object that is absent "
        "for so long (object score at most 0, or no mask) ends; its next prompt begins it again; off: never (default: "
        "off; objects of detections: when no look has seen them either, 10s)")  # fmt: skip
    group = p.add_argument_group("with --detections")
    add = group.add_argument
    add_reading(add)
    add("--classes", type=_classes, metavar="A,B", help="categories that count (default: all)")
    add("--min-score", type=float, metavar="X", help="lowest score that counts (default: 0)")
    add("--confirm-score", type=float, metavar="X", help="score from which one detection begins an object; below it a "
        "second look must agree (default: 0.8)")  # fmt: skip
    add("--min-box", type=float, metavar="PX", help="shortest side of a box that counts, in pixels (default: 0)")
    add("--max-objects", type=int, metavar="N", help="objects that may begin in one video (default: 1000)")
    add("--max-objects-per-frame", type=int, metavar="N", help="objects tracked at a time (default: 100)")
    add = p.add_argument
    add("--end-at-cuts", metavar="TABLE", help="table of jobs.shots: no object survives a cut, a later prompt or "
        "detection begins it anew; --direction forward alone (default: objects survive cuts)")  # fmt: skip
    add("--actors", type=int, metavar="N", help="number of workers (default: one per GPU, or 2 without GPUs)")
    add("--cpus-per-actor", type=float, metavar="X", help="CPU cores reserved per actor (default: 1)")
    add(
        "--gpus-per-actor",
        type=float,
        metavar="X",
        help="GPUs reserved per actor, 0 to 1 (default: 1, on CPUs 0)",
    )
    add("--lanes", type=int, metavar="N", help="videos that one actor labels at a time (default: 8 on GPUs, 1 on CPUs)")
    add("--worker-group", type=options.worker_group, action="append", metavar="name=...",
        help="a kind of workers: name=large,gpus=1,label=KEY=VALUE,actors=N,lanes=N,memory=GIB; repeatable, the "
        "smallest first; label is one of Ray's nodes (default: one kind, on any node)")  # fmt: skip
    add("--address", metavar="ADDR", help="Ray cluster to join, e.g. auto (default: start a local Ray)")
    add("--on-bad-row", choices=get_args(OnBadRow), help="stop at bad manifest rows, or skip them (default: fail)")
    add("--on-damaged", choices=get_args(OnDamaged), help="label damaged videos as far as they decode, or fail them "
        "(default: label)")  # fmt: skip
    add("--find-duplicates", choices=get_args(FindDuplicates), help="how videos of equal content are found, which are "
        "labelled once if their prompts are equal: by size and ETag on S3 (etag, the default), or by reading every "
        "source that may be equal: its bytes (content) or its packets (packets)")  # fmt: skip
    add_storage(p)
    add("--check-drift", action="store_true", default=None, help="track backward, too, and fill the column drift "
        "(twice the time)")  # fmt: skip
    add("--allow-uri", action="append", metavar="PREFIX", help="refuse videos that are not below PREFIX; repeatable")
    add("--checkpoint-every", dest="checkpoint_every_s", type=options.duration, metavar="TIME",
        help="time between two checkpoints of a video (default: 120s)")  # fmt: skip
    add("--keep-states", type=int, metavar="N", help="keep up to N states of each video, so that after a correction on "
        "frame t it is tracked again from the last state before t; of hiera-tiny one takes 3 MiB an object and 0.5 MiB "
        "a prompt; --dry-run says how much in all (default: none)")  # fmt: skip
    add("--deadline-floor", dest="deadline_floor_s", type=options.duration, metavar="TIME",
        help="time that every video may take, whatever its estimated cost (default: 15m)")  # fmt: skip
    add("--grace", dest="grace_s", type=options.duration, metavar="TIME",
        help="time for checkpoints when the run is stopped (default: 60s)")  # fmt: skip
    add("--stop-at", type=options.moment, metavar="TIME", help="checkpoint and stop at 06:00, or at an ISO 8601 time")
    add("--budget-gpu-hours", type=float, metavar="X", help="checkpoint and stop after X GPU hours (default: no limit)")
    add("--calibration", metavar="URI", help="file that jobs.calibrate wrote for this model: --dry-run estimates time, "
        "and videos are ordered by it (default: relative costs by the size of the model)")  # fmt: skip
    add("--price-per-hour", type=float, metavar="X", help="price of one GPU for an hour, or of one actor where actors "
        "have no GPU; --dry-run with --calibration estimates the price of the run")  # fmt: skip
    add("--sample", type=options.fraction, metavar="X%", help="label only this share of the videos, by a hash of "
        "video_id")  # fmt: skip
    add("--shard", type=options.shard, metavar="I/N", help="label only the I-th of N parts; shards may run at once")
    add("--max-relabel", type=options.fraction, metavar="X%", help="refuse to replace more than this share of the "
        "published labels")  # fmt: skip
    add("--dry-run", action="store_true", default=None, help="print what is pending and why; label nothing")
    add("--no-publish", action="store_true", default=None, help="stage: commit parts only; jobs.publish shows them")
    return p


def read_options(arguments: list[str]) -> tuple[RunConfig, bool, "Clip | None"]:
    """The run's configuration, whether it is a dry run, and the clip if there is no manifest.

    Raises:
        UsageError: An option is missing or not allowed.
    """
    given = read_given(parser(), arguments)
    detect = _take_detection(given)
    clip = _take_clip(given)
    require(given, "manifest", "output", "model")
    dry_run = bool(given.pop("dry_run", False))
    values: dict[str, Any] = {"publish": not given.pop("no_publish", False)}
    values |= {name: tuple(given.pop(name, ())) for name in ("allow_uri", "worker_group")}
    association = {name: given.pop(name) for name in ASSOCIATION_NAMES if name in given}
    if association.get("retire_after_s") == 0:  # off
        association["retire_after_s"] = None
    values["reading"] = take_reading(given)
    values["association"] = Association(**association)
    parameters = {name: given.pop(name) for name in PARAMETER_NAMES if name in given}
    values["parameters"] = Parameters(**parameters, retire_after_s=association.get("retire_after_s"))
    return RunConfig(detect=detect, **values, **given), dry_run, clip


def _take_detection(given: dict[str, Any]) -> DetectFirst | None:
    """The detection that comes first, among the options, which are removed.

    Raises:
        UsageError: An option of detection is given without the others, or is not allowed.
    """
    classes, detector = given.pop("detect", None), given.pop("detector", None)
    if classes is None or detector is None:
        if lone := "--detect" if classes else "--detector" if detector else "--threshold" * ("threshold" in given):
            raise UsageError(f"{lone} needs --detect CLASSES and --detector NAME")
        return None
    if both := [name for name in ("clip", "detections", "prompts") if name in given]:
        raise UsageError(f"both --detect and {both[0]} are given; allowed is one of them")
    parameters = DetectionParameters(
        classes=parse_classes(classes), at=given.pop("at", "1s"), threshold=given.pop("threshold", None)
    )
    return DetectFirst(model=detector, parameters=parameters)


def _take_clip(given: dict[str, Any]) -> "Clip | None":
    """The clip among the options, which are removed; sets the defaults of a run on one clip.

    Raises:
        UsageError: A manifest is given, too, or prompts without a clip.
    """
    uri = given.pop("clip", None)
    prompts = {name: given.pop(name) for name in ("point", "box", "at") if name in given}
    if uri is None:
        if prompts:
            raise UsageError(f"--{next(iter(prompts))} needs a clip: python -m jobs.label clip.mp4 --point 120,90")
        return None
    if both := [name for name in ("manifest", "prompts") if name in given]:
        raise UsageError(f"both the clip {uri} and --{both[0]} are given; allowed is one of them")
    from pipeline.api.clip import CLIP_MODEL, Clip  # loads PyAV

    clip = Clip(uri=uri, points=prompts.get("point", ()), boxes=prompts.get("box", ()), at=prompts.get("at", "0"))
    given["manifest"] = uri
    given.setdefault("output", f"{clip.name}-labels")
    given.setdefault("model", CLIP_MODEL)
    given.setdefault("actors", 1)
    return clip


def _classes(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _retire_after(text: str) -> float:
    """Seconds; 0 for `off`."""
    if text == "off":
        return 0.0
    seconds = options.duration(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0; write 10s, or off")
    return seconds


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    config, dry_run, clip = read_options(sys.argv[1:] if arguments is None else arguments)
    manifest = clip.manifest(storage=_storage(config)) if clip else None
    from pipeline.runs.prepare import prepare  # imported late: they load Ray
    from pipeline.runs.run import label_corpus

    if config.detect and dry_run:
        from pipeline.runs.detection import detection_config, read_videos

        videos = read_videos(config.manifest, storage=_storage(config), on_bad_row=config.on_bad_row)
        console.out.print("first detection, then labelling of what it finds; of the detection:")
        console.show_plan(prepare(detection_config(config), manifest=videos))
        return 0
    if dry_run:
        console.show_plan(prepare(config, manifest=manifest), price_per_hour=config.price_per_hour)
        return 0
    with display_for() as display:
        report = label_corpus(config, watch=display.update, manifest=manifest)
    console.show_report(report)
    if clip and report.published:
        _draw_film(config, clip)
    return report.exit_code


def _draw_film(config: RunConfig, clip: "Clip") -> None:
    """Write the overlay film of the clip into the current folder."""
    from pipeline.tables.query import open_labels
    from pipeline.video.content import open_labelled
    from pipeline.views.preview import load_videos, write_film

    storage, path = _storage(config), Path(f"{clip.name}-labels.mp4")
    with open_labels(config.output, storage=storage) as labels:
        (labelled,) = load_videos(labels, [clip.name])
        with open_labelled(labelled.video, storage=storage) as reader:
            write_film(labelled, reader, path)
    console.out.print(f"film: {path}", markup=False)


def _storage(config: RunConfig) -> "Storage":
    from pipeline.storage import Storage

    return Storage.from_toml(config.storage)


if __name__ == "__main__":
    start(main)
