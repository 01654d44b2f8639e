"""Costs of detections: planning from a table of a million boxes, and tracking a long video.

    python -m tests.benchmarks.detections plan [--rows 1000000] [--videos 10000]
    python -m tests.benchmarks.detections track [--frames 10000]

`plan` prints the time and the peak memory of reading all digests, and the time of reading one video. `track` prints
milliseconds a frame, live tensors and conditioning frames for each tenth of a video of three objects with a look each
30 frames. The model is a small one (64 px) with random weights, so that nearly every look prompts the objects again.
"""

import argparse
import gc
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.detection import SCHEMA, read_video
from pipeline.detection.digests import table_digests


def make_table(path: Path, *, rows: int, videos: int) -> pa.Array:
    """A table sorted by video; returns the video ids."""
    ids = pa.array([f"video-{n:07}" for n in range(videos)])
    each = rows // videos
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start in range(0, videos, 5000):
            some = ids.slice(start, 5000)
            count = len(some) * each
            low = rng.uniform(0, 500, (2, count)).astype(np.float32)
            sides = [low[0], low[1], low[0] + 50, low[1] + 50]
            box = pa.StructArray.from_arrays([pa.array(s) for s in sides], fields=list(SCHEMA.field("box").type))
            columns = {
                "video_id": some.take(pa.array(np.repeat(np.arange(len(some)), each))),
                "frame_index": pa.array(np.tile(np.arange(each) // 4 * 30, len(some))),
                "box": box,
                "category": pa.array(["car", "person"] * (count // 2)),
                "score": pa.array(rng.uniform(0.3, 1, count).astype(np.float32)),
            }
            arrays = [columns.get(f.name, pa.nulls(count, f.type)) for f in SCHEMA]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), row_group_size=100_000)
    return ids


def plan(rows: int, videos: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detections.parquet"
        with ProcessPoolExecutor(1) as child:  # whose memory is not that of the measurement
            child.submit(make_table, path, rows=rows, videos=videos).result()
        ids = pa.array([f"video-{n:07}" for n in range(videos)])
        before, started, cpu = _peak_mib(), time.perf_counter(), time.process_time()
        found = table_digests(str(path), ids)
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
        assert found.digests.null_count == 0
        one = time.perf_counter()
        read_video(str(path), ids[videos // 2].as_py())
        print(
            f"{rows:,} detections of {videos:,} videos, {path.stat().st_size / 2**20:.0f} MiB: digests in "
            f"{seconds:.1f} s ({cpu:.1f} s of CPU), peak memory +{_peak_mib() - before:.0f} MiB; one "
            f"video in {(time.perf_counter() - one) * 1000:.0f} ms"
        )


def track(frames: int) -> None:
    from pipeline.detection.track import track_detections
    from pipeline.tracking import Engine
    from tests.tracking import models
    from tests.tracking import videos as v

    model = models.random_model(1, image_size=64)
    pixels = [model.resize(frame) for frame in v.video(8)]

    class Source:
        height, width = v.HEIGHT, v.WIDTH

        def forward(self, start):
            return ((t, pixels[t % 8]) for t in range(start, frames))

        def backward(self, start):
            return ((t, pixels[t % 8]) for t in range(start, -1, -1))

        def at(self, indices):
            return {t: pixels[t % 8] for t in indices}

    boxes = [(10.0, 10.0, 40.0, 40.0), (60.0, 20.0, 90.0, 50.0), (100.0, 40.0, 130.0, 80.0)]
    looks = [
        {"video_id": "v", "frame_index": t, "box": dict(zip(("x_min", "y_min", "x_max", "y_max"), b, strict=True)),
         "category": str(n), "score": 0.9}
        for t in range(0, frames, 30) for n, b in enumerate(boxes)
    ]  # fmt: skip
    table = pa.Table.from_pylist(looks, schema=SCHEMA)
    propagation, associator = track_detections(Engine(model), Source(), table, fps=30)
    tenth, spent, held, prompted = frames // 10, [], [], []
    started = time.process_time()
    with propagation:
        for frame in propagation:
            if (frame.frame_index + 1) % tenth == 0:
                spent.append((time.process_time() - started) / tenth * 1000)
                held.append(_live_mib())
                prompted.append(max(len(bank.prompted) for bank in propagation._state.banks))
                print(
                    f"{frame.frame_index + 1:,} frames: {spent[-1]:.1f} ms of CPU a frame, {held[-1]:.1f} MiB of live "
                    f"tensors, {_peak_mib():.0f} MiB peak, {prompted[-1]} conditioning frames",
                    flush=True,
                )
                started = time.process_time()
    print(
        f"{frames:,} frames, {len(looks):,} detections, {len(associator.prompts)} prompts of "
        f"{len({p['object_id'] for p in associator.prompts})} objects: {spent[0]:.1f} ms of CPU a frame in the first "
        f"tenth, {spent[-1]:.1f} in the last; live tensors {held[0]:.1f} and {held[-1]:.1f} MiB; "
        f"at most {max(prompted)} conditioning frames"
    )


def _live_mib() -> float:
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and not thing.is_mkldnn:
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values()) / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "track"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=10_000)
    given = parser.parse_args()
    plan(given.rows, given.videos) if given.what == "plan" else track(given.frames)
