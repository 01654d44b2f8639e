"""Planning a million videos against nine hundred thousand labelled ones, on S3 that answers after 50 ms.

    python -m tests.benchmarks.plan [VIDEOS]

Everything the driver does before it starts workers: validate, ask for versions, digest, key, compare, order. The
manifest gives no versions, so they come from listing the sources; what is labelled comes from the videos table and from
listing the parts, which are all still there. Then once more after an upgrade of the package, with a renamed bucket,
renamed categories and one corrected prompt.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import write_deltalake

from pipeline.labels import VIDEOS
from pipeline.labels.key import KEY_COLUMNS
from pipeline.manifest import SCHEMA
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare
from pipeline.storage import part_path

LABELLED = 0.9
DELAY_S = 0.05
CORRECTED = 4711


def key_of(i: int) -> str:
    return f"videos/{i % 1000:03}/{i:09}.mp4"


def write_manifest(path: Path, videos: int, *, bucket: str, category: str, corrected: int | None = None) -> None:
    """Videos with one or two prompts each, row group by row group."""
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for first in range(0, videos, 50_000):
            rows = []
            for i in range(first, min(first + 50_000, videos)):
                x, y = (float(v) for v in rng.integers(1, 500, 2))
                point = {"x": x + (i == corrected), "y": y, "label": 1}
                prompts = [{"object_id": 1, "frame_index": 0, "points": [point], "category": category}]
                if i % 2:
                    box = {"x_min": x, "y_min": y, "x_max": x + 40, "y_max": y + 30}
                    prompts.append({"object_id": 2, "frame_index": i % 90, "box": box})
                rows.append({"video_id": f"video-{i:09}", "video_uri": f"s3://{bucket}/{key_of(i)}", "prompts": prompts,
                             "num_frames": i % 700 + 10})  # fmt: skip
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def label(server: Path, table: pa.Table) -> None:
    """Have these rows of a plan labelled, by an older version of the package: in the videos table, and as parts."""
    constant = {"outcome": "labelled", "uri": "s3://bucket/videos", "package_version": "0.0.1"}
    columns = [
        table[field.name].cast(field.type)
        if field.name in (*KEY_COLUMNS, "video_id", "label_key")
        else pa.repeat(pa.scalar(constant.get(field.name), field.type), table.num_rows)
        for field in VIDEOS
    ]
    write_deltalake(str(server / "labels" / "objects" / "out" / "videos"), pa.table(columns, schema=VIDEOS))
    pairs = zip(table["video_id"].to_pylist(), table["label_key"].to_pylist(), strict=True)
    keys = sorted(f"out/{part_path(video_id, key)}" for video_id, key in pairs)
    (server / "labels" / "keys.txt").write_text("\n".join(keys))


def plan(manifest: str, keep: str = "") -> None:
    """Plan in this process, and print what it took and found."""
    started, cpu = time.perf_counter(), time.process_time()
    made = prepare(RunConfig(manifest=manifest, output="s3://labels/out", model="embedded")).plan
    found = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_gib": round(peak_kib() / 2**20, 2),
        "labelled": made.count("labelled"),
        "pending": made.reasons(),
    }
    if keep:
        pq.write_table(made.table, keep)
    print(json.dumps(found))


def peak_kib() -> int:
    """Of this process; getrusage would count what its parent had before it became this one."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def planned(server: Path, *arguments: str) -> dict:
    """`plan` in a process of its own, against the server."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.listing", str(server), str(DELAY_S)], stdout=subprocess.PIPE, text=True
    ) as listing:
        try:
            assert listing.stdout
            env = {"AWS_ENDPOINT_URL": listing.stdout.readline().strip(), "AWS_ACCESS_KEY_ID": "k"}
            env |= {"AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
            command = [sys.executable, "-m", "tests.benchmarks.plan", "plan", *arguments]
            done = subprocess.run(command, env=os.environ | env, stdout=subprocess.PIPE, text=True, check=True)
            return json.loads(done.stdout)
        finally:
            listing.kill()


def main(videos: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, server = Path(name), Path(name) / "server"
        for bucket in ("sources", "renamed", "labels"):
            (server / bucket / "objects").mkdir(parents=True)
        for bucket in ("sources", "renamed"):
            (server / bucket / "keys.txt").write_text("\n".join(sorted(key_of(i) for i in range(videos))))
        before, after, kept = (str(folder / f"{each}.parquet") for each in ("before", "after", "kept"))
        write_manifest(Path(before), videos, bucket="sources", category="car")
        write_manifest(Path(after), videos, bucket="renamed", category="vehicle", corrected=CORRECTED)
        print("nothing labelled:", planned(server, before, kept), flush=True)
        label(server, pq.read_table(kept).slice(0, int(videos * LABELLED)))
        print("nine tenths labelled:", planned(server, before), flush=True)
        print("upgraded, renamed, one prompt corrected:", planned(server, after), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["plan"]:
        plan(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
