"""Seconds and peak memory of reading and digesting a manifest of a million videos, on one core.

python -m tests.benchmarks.manifest [ROWS]
"""

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.manifest import prompt_digests, read_manifest
from pipeline.masks import rle

T = TypeVar("T")
CHUNK = 50_000
Y, X = np.mgrid[:480, :480]
COUNTS = rle.encode(((X - 200) ** 2 + 2 * (Y - 250) ** 2 < 90**2)[None])[0]


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        nested, flat, prompts = (Path(folder) / f"{name}.parquet" for name in ("nested", "flat", "prompts"))
        in_process(lambda: write(rows, nested, flat, prompts))
        for name, path in (("nested", nested), ("flat", flat), ("prompt table", prompts)):
            print(f"{name}: {path.stat().st_size / 2**20:.0f} MiB of Parquet")
        in_process(lambda: run(nested))
        in_process(lambda: run(flat, prompts=prompts))


def run(path: Path, *, prompts: Path | None = None) -> None:
    start = peak()
    manifest = timed("read_manifest", lambda: read_manifest(path, prompts=prompts))
    print(f"  peak {peak():.0f} MiB; {len(manifest)} rows, {manifest.table.nbytes / 2**20:.0f} MiB of Arrow")
    timed("prompt_digests", lambda: prompt_digests(manifest))
    timed("video(i), 1000 times", lambda: [manifest.video(i) for i in range(0, len(manifest), len(manifest) // 1000)])
    print(f"  peak {peak():.0f} MiB, {start:.0f} of them before")


def timed(name: str, call: Callable[[], T]) -> T:
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    print(f"  {name}: {time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of CPU)", flush=True)
    return result


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(call: Callable[[], None]) -> None:
    """Alone in a process, pinned to one core, so that its peak memory is its own."""

    def body() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        call()

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def write(rows: int, nested: Path, flat: Path, prompts: Path) -> None:
    """1 to 3 prompts a video: points, boxes, boxes with points, and masks; as pandas would write the widths."""
    random = np.random.default_rng(0)
    writers: dict[Path, pq.ParquetWriter] = {}

    def put(path: Path, table: pa.Table) -> None:
        if path not in writers:
            writers[path] = pq.ParquetWriter(path, table.schema)
        writers[path].write_table(table, row_group_size=2**20)

    for first in range(0, rows, CHUNK):
        count = min(CHUNK, rows - first)
        number = np.arange(first, first + count)
        lengths = random.integers(1, 4, count)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        total = int(offsets[-1])
        kind = random.integers(0, 4, total)
        some_points = np.where(np.isin(kind, (0, 2)), random.integers(1, 4, total), 0)
        point_offsets = np.concatenate([[0], np.cumsum(some_points)]).astype(np.int32)
        xy = random.uniform(0, 1000, (2, int(point_offsets[-1])))
        label = np.ones(len(xy[0]), np.int64)
        corner = random.uniform(0, 900, (2, total))
        boxed = np.isin(kind, (1, 2))
        box = {
            name: pa.array(side, mask=~boxed)
            for name, side in zip(
                ("x_min", "y_min", "x_max", "y_max"),
                (*corner, *(corner + random.uniform(1, 99, (2, total)))),
                strict=True,
            )
        }
        masked = kind == 3
        counts = pa.array(np.where(masked, COUNTS, ""), mask=~masked)
        side = pa.array(np.full(2 * total, 480, np.int64))
        size = pa.ListArray.from_arrays(
            pa.array(np.arange(0, 2 * total + 1, 2, np.int32)), side, mask=pa.array(~masked)
        )
        key = {
            "object_id": pa.array(np.arange(total) - np.repeat(offsets[:-1], lengths)),
            "frame_index": pa.array(random.integers(0, 3, total)),
            "category": pa.array(random.choice(["cat", "dog", "person"], total)),
        }
        points = pa.ListArray.from_arrays(
            pa.array(point_offsets),
            pa.StructArray.from_arrays([*map(pa.array, (*xy, label))], names=["x", "y", "label"]),
        )
        mask = pa.StructArray.from_arrays([size, counts], names=["size", "counts"])
        values = pa.StructArray.from_arrays(
            [*key.values(), points, pa.StructArray.from_arrays([*box.values()], names=[*box]), mask],
            names=[*key, "points", "box", "mask"],
        )
        ids = pa.array([f"camera-{n % 97:02d}/2026-11-{n % 30 + 1:02d}/clip-{n:08d}" for n in number])
        video = {
            "video_id": ids,
            "video_uri": pa.array([f"s3://corpus/videos/{name}.mp4" for name in ids.to_pylist()]),
            "video_version": pa.array([f"{n:032x}" for n in number]),
            "num_frames": pa.array(random.integers(30, 9000, count)),
            "site": pa.array(random.choice(["north", "south"], count)),
        }
        put(nested, pa.table({**video, "prompts": pa.ListArray.from_arrays(pa.array(offsets), values)}))
        put(flat, pa.table(video))
        heights = pa.array(np.full(total, 480.0), mask=~masked)
        owner = ids.take(pa.array(np.repeat(np.arange(count), lengths)))
        columns = {"mask_height": heights, "mask_width": heights, "mask_counts": counts}
        put(prompts, pa.table({"video_id": owner, **key, "points": points, **box, **columns}))
    for writer in writers.values():
        writer.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
