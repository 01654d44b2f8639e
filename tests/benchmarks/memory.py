"""`python -m tests.benchmarks.memory [embedded|SIZE]`: memory a process holds after so many frames, and transformers'.

The embedded model, or a hiera-tiny of SIZE pixels with random weights; OBJECTS objects, one session for all of them in
transformers. Each in a process of its own that drops its results; MiB above what it had after the first frame.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from pipeline.tracking import Engine
from pipeline.tracking.sam2.model import Sam2
from pipeline.video import keep_freed_memory
from tests.benchmarks.engine import engine_frames, transformers_frames
from tests.tracking import models, videos

OBJECTS = 4
MARKS = {"embedded": (50, 200, 400)}
FEW_MARKS = (10, 20, 30)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def load(name: str) -> Sam2:
    return models.embedded() if name == "embedded" else models.random_sam2(models.tiny_config(int(name)))


def grow(name: str, contestant: str) -> None:
    """Print what this process has gained at each mark."""
    torch.set_num_threads(1)
    keep_freed_memory()
    sam2, marks = load(name), MARKS.get(name, FEW_MARKS)
    video = videos.video(marks[-1] + 1)
    with torch.inference_mode():
        frames: Iterator[int]
        if contestant == "transformers":
            frames = transformers_frames(sam2, video, OBJECTS)
        else:
            frames = engine_frames(Engine(sam2), sam2, video, OBJECTS)
        first = 0.0
        for count, _ in enumerate(frames):
            if count == 1:
                first = resident_mib()
            if count in marks:
                print(f"{resident_mib() - first:.0f}", flush=True)


def main(name: str) -> None:
    marks = MARKS.get(name, FEW_MARKS)
    print(f"{name}, {OBJECTS} objects, MiB more than after the first frame")
    print(f"{'frames':14}" + "".join(f"{mark:>8}" for mark in marks))
    for contestant in ("transformers", "engine"):
        command = [sys.executable, "-m", "tests.benchmarks.memory", name, contestant]
        grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(f"{contestant:14}" + "".join(f"{mib:>8}" for mib in grown), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        grow(*sys.argv[1:])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "embedded")
