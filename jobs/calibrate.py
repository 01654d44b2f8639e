"""Measure how fast this machine labels with a model, for the estimates of jobs.label --dry-run.

Labels a short clip with every pair of --objects and --lanes, in as many processes as a run would have actors, and
writes a JSON file for --calibration of jobs.label. It takes --seconds and the time to load the model. Measure with a
video like yours (--manifest), because decoding and encoding take longer for larger frames.
"""

import argparse
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from jobs import console
from jobs.command import add_storage, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.labels.key import Dtype
from pipeline.runs.config import Device
from pipeline.runs.values import user_path
from pipeline.views.words import duration, short, size

if TYPE_CHECKING:  # only for types: --help is shown without loading pyarrow and torch
    from pipeline.manifest import Video
    from pipeline.runs.calibration import Calibration
    from pipeline.storage import Storage

HEIGHT, WIDTH = 720, 1280
"""Of the rendered clip."""
DRAWN_FRAMES = 24
"""Shown forward, backward and forward again: drawing a frame takes longer than labelling it."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.calibrate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("--model", metavar="NAME", required=True, help="hub id such as facebook/sam2.1-hiera-tiny, folder, or embedded")
    add("--revision", metavar="REV", help="branch, tag or commit of a hub model (default: main)")
    add("--dtype", choices=get_args(Dtype), default="float32", help="precision, as in jobs.label (default: float32)")
    add("--device", choices=get_args(Device), default="auto", help="device that runs the model (default: auto)")
    add("--manifest", metavar="URI", help="measure on the first video of this manifest and its earliest prompts "
        "(default: a rendered clip, 1280 x 720)")  # fmt: skip
    add("--objects", type=int, nargs="+", metavar="N", default=[1, 5, 20], help="objects per video (default: 1 5 20)")
    add("--lanes", type=int, nargs="+", metavar="N", help="videos that one actor labels at a time (default: 1 8 on "
        "GPUs, 1 on CPUs)")  # fmt: skip
    add("--actors", type=int, metavar="N", help="actors of a run on this machine (default: one per GPU, or 2 without)")
    add("--cpus-per-actor", type=float, default=1.0, metavar="X", help="CPU cores per actor (default: 1)")
    add("--seconds", type=float, default=90.0, metavar="S", help="time for all measurements together (default: 90)")
    add("--output", type=user_path, default=Path("calibration.json"), metavar="FILE", help="file to write (default: "
        "calibration.json)")  # fmt: skip
    add_storage(p)
    return p


def _video(manifest: str | None, folder: Path, storage: "Storage") -> "Video":
    """The first video of the manifest, or a rendered clip in `folder` with a click on each object.

    Raises:
        UsageError: The manifest has no video.
    """
    from pipeline.demo.corpus import click, write_video
    from pipeline.demo.renderer import EVAL_SEEDS, render
    from pipeline.manifest import read_manifest
    from pipeline.storage import open_source

    if manifest:
        found = read_manifest(manifest, open_file=lambda uri: open_source(uri, storage=storage)[0])
        if not len(found):
            raise UsageError(f"{manifest} has no videos; calibration needs one")
        return found.video(0)
    import numpy as np
    import pyarrow as pa

    clip = render(EVAL_SEEDS + 13, split="eval", frames=DRAWN_FRAMES, height=HEIGHT, width=WIDTH)
    shown = np.concatenate([clip.frames, clip.frames[::-1], clip.frames])
    write_video(folder / "clip.mp4", shown, Fraction(24))
    prompts: list[dict[str, Any]] = [
        {"object_id": n, "frame_index": 0, **click(clip.mask(n)[0])}
        for n in range(1, len(clip.objects) + 1)
        if clip.mask(n)[0].any()
    ]
    row = {"video_id": "rendered", "video_uri": str(folder / "clip.mp4"), "prompts": prompts}
    return read_manifest(pa.Table.from_pylist([row])).video(0)


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    import torch

    from pipeline.runs.config import CPU_LANES, GPU_LANES
    from pipeline.runs.measurement import Measurement, measure
    from pipeline.tracking.modelfiles import resolve

    gpus = torch.cuda.device_count() if given.device != "cpu" else 0
    if given.device == "cuda" and not gpus:
        raise UsageError("--device is cuda, and PyTorch sees no CUDA device; use cpu or auto")
    storage = open_storage(given)
    measurement = Measurement(
        model=resolve(given.model, revision=given.revision),
        revision=given.revision,
        device="cuda" if gpus else "cpu",
        dtype=given.dtype,
        objects=tuple(given.objects),
        lanes=tuple(given.lanes or ([CPU_LANES, GPU_LANES] if gpus else [CPU_LANES])),
        actors=given.actors or gpus or 2,
        gpus=gpus,
        cpus_per_actor=given.cpus_per_actor,
        seconds=given.seconds,
    )
    if not given.output.parent.is_dir():
        raise UsageError(f"--output is {given.output}, and its folder does not exist")
    with tempfile.TemporaryDirectory() as folder:
        calibration = measure(measurement, _video(given.manifest, Path(folder), storage), storage=storage)
    given.output.write_bytes(calibration.to_json())
    _show(calibration, left_out=len(measurement.combinations) - len(calibration.rates))
    console.out.print(f"written to {given.output}; use it: python -m jobs.label --calibration {given.output} ...")
    return 0


def _show(calibration: "Calibration", *, left_out: int) -> None:
    from rich.table import Table

    table = Table("objects", "lanes", "frames/s", "masks/s", "lanes wait for frames", "memory", "GPU memory", box=None)
    for rate in calibration.rates:
        table.add_row(
            str(rate.objects),
            str(rate.lanes),
            short(rate.frames_per_s) + ("" if rate.full_memory else " *"),
            short(rate.frames_per_s * rate.objects),
            f"{rate.starved:.0%}",
            size(rate.memory_bytes),
            size(rate.gpu_memory_bytes) if rate.gpu_memory_bytes else "",
        )
    clip = calibration.clip
    console.out.print(
        f"{calibration.model} in {calibration.dtype} on {calibration.device}: each of {calibration.actors} actors, "
        f"video of {clip['width']} x {clip['height']}",
        markup=False,
    )
    console.out.print(table)
    if not all(rate.full_memory for rate in calibration.rates):
        console.out.print("* before tracks had all their memories, so later frames take longer; use more --seconds")
    if left_out:
        console.out.print(f"{left_out} of the pairs would take too long and were left out; use more --seconds")
    console.out.print(
        f"one core decodes and resizes {short(calibration.decode_frames_per_core_s)} frames/s and encodes "
        f"{short(calibration.encode_masks_per_core_s)} masks/s; an actor starts in {duration(calibration.start_s)}"
    )


if __name__ == "__main__":
    start(main)
