"""A real run over simulated actors that sleep by a heavy-tailed time: utilisation, makespan, driver's cost.

    python -m tests.benchmarks.driver [ACTORS [VIDEOS]]

The clock starts when all actors are up. Utilisation is the share of actor time spent labelling until the tail begins:
the moment when the last video is taken up. The bound is max(total / actors, longest). The driver's CPU is that of its
whole process, from planning's end to the last video's.
"""

import os
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.runs import run
from pipeline.runs.config import RunConfig
from tests.workers.simulated import SleepingLabeler

SHORTEST_S, TAIL = 2.0, 2.5
FRAMES_PER_S = 1000


def write_manifest(path: Path, seconds: np.ndarray) -> None:
    """A video for each duration, in no order; its cost is known exactly."""
    rows = [
        {
            "video_id": f"v{i}",
            "video_uri": f"s3://bucket/{i}.mp4",
            "video_version": "1",
            "num_frames": int(FRAMES_PER_S * s),
            "seconds": float(s),
            "prompts": [{"object_id": 1, "frame_index": 0, "points": [{"x": 1.0, "y": 1.0, "label": 1}]}],
        }
        for i, s in enumerate(seconds)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def main(actors: int, videos: int) -> None:
    rng = np.random.default_rng(0)
    seconds = SHORTEST_S * (1 - rng.random(videos)) ** (-1 / TAIL)
    with tempfile.TemporaryDirectory() as name:
        manifest, output = Path(name) / "manifest.parquet", Path(name) / "out"
        (output / "spans").mkdir(parents=True)
        write_manifest(manifest, seconds)
        started, cpu = [], []

        def watch(progress: run.Progress) -> None:
            if not started and len({flight["worker"] for flight in progress.flights}) == actors:
                started.append(time.time())
                cpu.append(time.process_time())
                (output / "go").touch()
            elif progress.done + 1 >= videos:
                cpu[1:] = [time.process_time()]

        run.label_corpus(
            RunConfig(
                manifest=str(manifest),
                output=str(output),
                model="embedded",
                device="cpu",
                actors=actors,
                cpus_per_actor=0.01,
                publish=False,
            ),
            watch=watch,
            load_labeler=SleepingLabeler,
        )
        data = b"".join(path.read_bytes() for path in (output / "spans").iterdir())
    spans = np.array(list(struct.iter_unpack("dd", data)))
    assert len(spans) == videos
    tail, ended = spans[:, 0].max(), spans[:, 1].max()
    busy = (np.minimum(spans[:, 1], tail) - spans[:, 0]).sum()
    bound = max(seconds.sum() / actors, seconds.max())
    print(
        f"{actors} actors, {videos} videos: utilisation until the tail {busy / (actors * (tail - started[0])):.1%}, "
        f"makespan {(ended - started[0]) / bound:.3f} of the bound {bound:.0f} s, "
        f"driver {1000 * (cpu[-1] - cpu[0]) / videos:.2f} ms of CPU a video"
    )


if __name__ == "__main__":
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    main(*(int(each) for each in (*sys.argv[1:], *("64", "1500")[len(sys.argv) - 1 :])))
