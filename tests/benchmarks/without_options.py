"""A run without label rate, ends, duplicates, worker groups or kept states, against an older checkout.

    python -m tests.benchmarks.without_options [COMMIT|FOLDER] [--rounds 5]

Both plan a manifest, schedule videos on simulated workers and label clips in turns, each in a process of its own that
stays. Printed are the smallest CPU times and their ratio (now / before), and median and range of the rounds' ratios.
The default commit is the last one without these options.
"""

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PLANNED, SCHEDULED, CLIPS, FRAMES = 20_000, 10_000, 4, 30
WORKERS = 64
BEFORE = "3849bc3"
HERE = Path(__file__).resolve().parents[2]


def plan(folder: Path) -> None:
    """Plan PLANNED videos whose versions and lengths the manifest gives, so that no header is read."""
    from pipeline.runs.config import RunConfig
    from pipeline.runs.prepare import prepare

    path = folder / "manifest.parquet"
    if not path.exists():
        prompt = {"object_id": 1, "frame_index": 0, "points": [{"x": 1.0, "y": 1.0, "label": 1}]}
        rows = [
            {"video_id": f"v{i}", "video_uri": f"s3://b/{i}.mp4", "video_version": "1", "prompts": [prompt]}
            for i in range(PLANNED)
        ]
        table = pa.Table.from_pylist(rows)
        pq.write_table(table.append_column("num_frames", pa.array([FRAMES] * PLANNED)), path)
    prepare(RunConfig(manifest=str(path), output=str(folder / "out"), model="embedded", device="cpu"))


def schedule(_: Path) -> None:
    """Assign SCHEDULED videos to WORKERS simulated workers, and finish each after its cost."""
    from pipeline.workers.scheduler.actions import Assign, Start
    from pipeline.workers.scheduler.scheduler import Scheduler
    from pipeline.workers.scheduler.worker import Limits

    costs = [1.0 + (i * 7919 % 101) / 10 for i in range(SCHEDULED)]
    make: Any = getattr(Limits, "of", Limits)
    scheduler = Scheduler(range(SCHEDULED), costs, limits=make(workers=WORKERS, in_flight=2))
    now, running = 0.0, []
    while not scheduler.over:
        for action in scheduler.decide(now):
            if isinstance(action, Start):
                scheduler.worker_ready(action.worker)
            elif isinstance(action, Assign):
                heapq.heappush(running, (now + costs[action.index], action.worker, action.index))
        if running:
            now, worker, index = heapq.heappop(running)
            scheduler.finished(worker, index, now)


def label(folder: Path) -> None:
    """Label CLIPS clips of two objects with the embedded model, in this process."""
    from pipeline.manifest import read_manifest
    from pipeline.workers.labeler import Labeler
    from tests import clips, labelling

    path = folder / "clip.mp4"
    if not path.exists():
        clips.write_clip(path, frames=FRAMES)
    rows = [{"video_id": "v", "video_uri": str(path), "prompts": [clips.red(), clips.green(), clips.red(9)]}]
    video = read_manifest(clips.write_manifest(folder / "clip.parquet", rows)).video(0)
    labeler = Labeler(labelling.settings(folder / "labels"))
    for _ in range(CLIPS):
        labeler.label(labelling.task_of(video, label_key=f"{time.perf_counter_ns()}"))


PARTS = {"plan": (plan, PLANNED), "schedule": (schedule, SCHEDULED), "label": (label, CLIPS * FRAMES)}
"""Each with the number of its videos or frames."""


def probe() -> None:
    """For each name of a part on stdin, print the CPU seconds that it takes."""
    with tempfile.TemporaryDirectory() as name:
        for line in sys.stdin:
            started = time.process_time()
            PARTS[line.strip()][0](Path(name))
            print(json.dumps(time.process_time() - started), flush=True)


class Checkout:
    """A process that runs the parts with the code of a checkout."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--probe"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def seconds(self, part: str) -> float:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{part}\n")
        process.stdin.flush()
        while True:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{part} failed with the code of {process.args!r}")
            try:
                return float(json.loads(line))
            except ValueError:  # a line that the code under test printed
                continue

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def checkout(name: str) -> Iterator[Path]:
    """The folder, or a temporary folder with the files of the commit."""
    if Path(name).is_dir():
        yield Path(name).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["git", "archive", name], cwd=HERE, check=False, capture_output=True)
        if done.returncode:
            print(f"not compared: {name} is neither a folder nor a commit of this clone")
            raise SystemExit(0)
        files = done.stdout
        subprocess.run(["tar", "x", "-C", folder], input=files, check=True)
        yield Path(folder)


def main(before: Path, rounds: int) -> None:
    old, new = Checkout(before), Checkout(HERE)
    for part, (_, count) in PARTS.items():
        old.seconds(part), new.seconds(part)  # imports, files and models
        pairs = []
        for turn in range(rounds):
            first, second = (old, new) if turn % 2 else (new, old)
            times = {id(each): each.seconds(part) for each in (first, second)}
            pairs.append((times[id(old)], times[id(new)]))
        ratios = sorted(after / earlier for earlier, after in pairs)
        us = [1e6 * min(pair[n] for pair in pairs) / count for n in range(2)]
        print(
            f"{part}: {us[0]:.1f} -> {us[1]:.1f} us of CPU a {'frame' if part == 'label' else 'video'}, "
            f"ratio {us[1] / us[0]:.2f} (rounds: {median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    old.close(), new.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["--probe"]:
        probe()
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("before", nargs="?", default=BEFORE, help=f"commit or folder (default: {BEFORE})")
        parser.add_argument("--rounds", type=int, default=5)
        given = parser.parse_args()
        with checkout(given.before) as folder:
            main(folder, given.rounds)
