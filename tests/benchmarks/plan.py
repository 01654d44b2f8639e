"""Planning a million videos against nine hundred thousand labelled ones: seconds and memory.

    python -m tests.benchmarks.plan [VIDEOS]

Everything the driver does before it starts workers, on a local output: validate, digest, key, compare, order.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from pipeline.config import RunConfig
from pipeline.labels import VIDEOS
from pipeline.manifest import SCHEMA
from pipeline.plan import KEY_COLUMNS
from pipeline.prepare import prepare
from pipeline.store import Store

LABELLED = 0.9


def write_manifest(path: Path, videos: int) -> None:
    """Videos with one or two prompts each, versions given, row group by row group."""
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for first in range(0, videos, 50_000):
            rows = []
            for i in range(first, min(first + 50_000, videos)):
                x, y = (float(v) for v in rng.integers(1, 500, 2))
                prompts = [{"object_id": 1, "frame_index": 0, "points": [{"x": x, "y": y, "label": 1}]}]
                if i % 2:
                    box = {"x_min": x, "y_min": y, "x_max": x + 40, "y_max": y + 30}
                    prompts.append({"object_id": 2, "frame_index": i % 90, "box": box})
                uri = f"s3://bucket/videos/{i % 1000:03}/{i:09}.mp4"
                rows.append({"video_id": f"video-{i:09}", "video_uri": uri, "prompts": prompts,
                             "video_version": f"v{i}", "num_frames": i % 700 + 10})  # fmt: skip
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def label(store: Store, table: pa.Table, videos: int) -> None:
    """A videos table that holds the first rows of a plan, as if they had been labelled."""
    done = table.slice(0, videos)
    constant = {"outcome": "labelled", "uri": "s3://bucket/videos"}
    columns = [
        done[field.name].cast(field.type)
        if field.name in (*KEY_COLUMNS, "video_id", "label_key")
        else pa.repeat(pa.scalar(constant.get(field.name), field.type), done.num_rows)
        for field in VIDEOS
    ]
    write_deltalake(store.uri_of("videos"), pa.table(columns, schema=VIDEOS))


def main(videos: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest, output = Path(folder) / "m.parquet", Path(folder) / "out"
        write_manifest(manifest, videos)
        config = RunConfig(manifest=str(manifest), output=str(output), model="embedded")
        label(Store(output), prepare(config).plan.table, int(videos * LABELLED))
        started, cpu = time.perf_counter(), time.process_time()
        plan = prepare(config).plan
        print(
            f"planned {videos} videos, {plan.count('labelled')} labelled, {len(plan.order)} pending, "
            f"in {time.perf_counter() - started:.1f} s ({time.process_time() - cpu:.1f} s of CPU), peak "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB with the making of the test data"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
