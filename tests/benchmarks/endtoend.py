"""`jobs.label` over 8 videos with one actor against the bare engine on the same videos.

    python -m tests.benchmarks.endtoend [embedded|tiny] [--rounds 5] [--frames 20]

tiny is facebook/sam2.1-hiera-tiny's architecture at 256 px with random weights, the smallest that anybody labels a
corpus with; the embedded toy takes a tenth of its time, so that Python and decoding weigh more beside it.

The job's time is from its first video's start to its last part's commit: decoding, RLE and Parquet are in it, start-up
and publishing are not. The engine's time is that of `Engine.propagate` over frames that are decoded and scaled
already, results dropped. Both may use all cores of this process, the model one thread. The two run in turn, because
machines drift: a round's ratio is that of a job to the mean of the engine before and after it, and the rounds' median
is the figure.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pipeline.demo.clicks import deepest
from pipeline.demo.corpus import write_video
from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.labels import read_part
from pipeline.tracking import Engine, TrackedObject
from pipeline.tracking.model import load
from pipeline.video import keep_freed_memory, open_video
from tests.clips import point, write_manifest
from tests.tracking import models, videos

VIDEOS = 8


def make(folder: Path, frames: int) -> list[dict[str, Any]]:
    """Manifest rows of clips with one click each."""
    rows = []
    for n in range(VIDEOS):
        clip = render(EVAL_SEEDS + n, frames=frames, height=192, width=256, split="eval")
        largest = max(range(1, int(clip.ids.max()) + 1), key=lambda o: int(clip.mask(o)[0].sum()))
        path = folder / f"{n}.mp4"
        write_video(path, clip.frames, Fraction(10))
        prompt = {"object_id": 1, "frame_index": 0, "points": [point(*map(float, deepest(clip.mask(largest)[0])))]}
        rows.append({"video_id": f"v{n}", "video_uri": str(path), "prompts": [prompt]})
    return rows


def bare_s(model: str, rows: list[dict[str, Any]]) -> float:
    """Seconds of the engine alone."""
    sam2 = load(model, device="cpu")
    engine = Engine(sam2)
    sources = []
    for row in rows:
        with Path(row["video_uri"]).open("rb") as file, open_video(file, name=row["video_uri"]) as reader:
            sources.append(videos.MemorySource(sam2, [frame.rgb for frame in reader.forward(0)]))
    for _ in engine.propagate(sources[0], _objects(rows[0])):  # warm, which the job's first videos are not
        pass
    started = time.perf_counter()
    for row, source in zip(rows, sources, strict=True):
        for _ in engine.propagate(source, _objects(row)):
            pass
    return time.perf_counter() - started


def _objects(row: dict[str, Any]) -> list[TrackedObject]:
    (where,) = row["prompts"][0]["points"]
    return [videos.tracked(1, f0=videos.click((where["x"], where["y"], 1)))]


def job_s(model: str, manifest: str, output: Path) -> float:
    """Seconds of the job, as its parts tell."""
    command = f"-m jobs.label --manifest {manifest} --output {output} --model {model} --device cpu --actors 1 --lanes 1"
    done = subprocess.run(
        [sys.executable, *command.split(), "--no-publish"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [read_part(path).video.to_pylist()[0] for path in (output / "parts").rglob("*.parquet")]
    assert len(found) == VIDEOS
    ends = [row["committed_at"].timestamp() for row in found]
    return max(ends) - min(end - row["total_s"] for end, row in zip(ends, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny", choices=["embedded", "tiny"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the workers do
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = "embedded"
        if args.model == "tiny":
            model = models.random_model_folder(folder / "model", models.random_sam2(models.tiny_config(256)))
        rows = make(folder, args.frames)
        manifest = write_manifest(folder / "manifest.parquet", rows)
        print(f"{args.model}: {VIDEOS} videos of {args.frames} frames, {len(os.sched_getaffinity(0))} cores")
        ratios = []
        before = bare_s(model, rows)
        for n in range(args.rounds):
            job, after = job_s(model, manifest, folder / f"out{n}"), bare_s(model, rows)
            ratios.append(2 * job / (before + after))
            print(f"bare engine {before:.2f} s, job {job:.2f} s, bare {after:.2f} s: {ratios[-1]:.3f}", flush=True)
            before = after
        print(f"median {median(ratios):.3f} (wanted at most 1.05)")


if __name__ == "__main__":
    main()
