"""Publish many videos, relabel some, optimize, and look one up: time, peak memory and bytes.

    python tests/benchmarks/publish.py [--videos 2000] [--rows 5000] [--output DIR]

Parts are made by replicating one. Prints one line per step; peak memory is that of a process of its own per step.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels import PartBuilder, read_part
from pipeline.labels.part import footer, parquet_settings
from pipeline.storage import Store, part_path
from tests.labelling import mask_rows

OBJECTS = 5


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def template(rows: int) -> bytes:
    rng = random.Random(0)
    with PartBuilder("template", label_key="00", height=1080, width=1920, memory_budget_bytes=1 << 30) as builder:
        for frame in range(rows // OBJECTS):
            builder.add(
                mask_rows(
                    frame,
                    frame / 30,
                    {
                        "object_id": list(range(OBJECTS)),
                        "is_prompted": [frame == 0] * OBJECTS,
                        "counts": [""] * OBJECTS,
                        "area": [rng.randrange(1, 99999) for _ in range(OBJECTS)],
                        "boxes": [(1, 2, 300, 400)] * OBJECTS,
                        "object_logit": [rng.random() for _ in range(OBJECTS)],
                        "predicted_iou": [rng.random() for _ in range(OBJECTS)],
                    },
                )
            )
        part = builder.finish({"outcome": "labelled", "uri": "s3://videos/x.mp4", "frames": rows // OBJECTS})
    assert isinstance(part, bytes)
    return part


def counts(rows: int, seed: str) -> pa.Array:
    """Strings as long as real masks' counts (60 to 180 characters), in which nothing repeats."""
    rng = np.random.default_rng(list(seed.encode()))
    ends = np.cumsum(rng.integers(60, 180, rows), dtype=np.int32)
    letters = rng.integers(48, 48 + 64, ends[-1], dtype=np.uint8)
    offsets = np.concatenate([np.zeros(1, np.int32), ends])
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(letters))


def replicate(data: bytes, video_id: str, label_key: str) -> bytes:
    part = read_part(data)

    def renamed(table: pa.Table) -> pa.Table:
        for name, value in (("video_id", video_id), ("label_key", label_key)):
            at = table.schema.get_field_index(name)
            column = pa.array(np.full(table.num_rows, value, dtype=object), pa.string())
            table = table.set_column(at, table.schema.field(name), column)
        return table

    masks = renamed(part.masks)
    masks = masks.set_column(
        masks.schema.get_field_index("counts"), masks.schema.field("counts"), counts(len(masks), video_id)
    )
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, part.masks.schema, **parquet_settings()) as writer:
        writer.write_table(masks, row_group_size=16_384)
        writer.add_key_value_metadata(footer(renamed(part.masklets), renamed(part.video)))
    return bytes(sink.getvalue())


def make(store: Store, run: str, keys: dict[str, str], rows: int) -> None:
    data = template(rows)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda pair: store.commit_once(part_path(*pair), replicate(data, *pair)), keys.items()))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"video_id": list(keys), "label_key": list(keys.values())}), sink)
    store.put(f"runs/{run}/wanted.parquet", bytes(sink.getvalue()))


STEPS = {
    "publish": "from pipeline.tables import publish; done = publish(store); "
    "said = f'{done.videos} videos, {done.mask_rows} rows, {done.bytes_written / 1e6:.0f} MB written'",
    "optimize": "from pipeline.tables import optimize; done = optimize(store); "
    "said = f'{done[0].files_before} to {done[0].files_after} files, {done[0].bytes_rewritten / 1e6:.0f} MB rewritten'",
    "lookup": "from pipeline.tables.query import open_labels; "
    "said = open_labels(store).sql(\"SELECT count(*) FROM masks WHERE video_id = 'v000077'\").fetchall()",
    "areas": "from pipeline.tables.query import open_labels; "
    'said = open_labels(store).sql("SELECT object_id, avg(area) FROM masks GROUP BY 1").fetchall()[:1]',
}


def step(name: str, store: Store) -> None:
    """Run one step in a process of its own and print what it took."""
    code = f"import sys; from pipeline.storage import Store; store = Store(sys.argv[1]); {STEPS[name]}; print(said)"
    started = time.perf_counter()
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code, store.uri], capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{name:9} {time.perf_counter() - started:7.1f} s  cpu {cpu:6.1f} s  peak so far {peak:6.0f} MiB  "
        f"{done.stdout.strip()}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=5000, help="mask rows of each video")
    parser.add_argument("--output", help="a new folder or URL (default: a temporary folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(given.output or Path(folder) / "out")
        keys = {f"v{at:06}": key(f"first {at}") for at in range(given.videos)}
        make(store, "1", keys, given.rows)
        size = sum(entry.size for entry in store.list("parts"))
        print(json.dumps({"videos": given.videos, "rows": given.videos * given.rows, "parts_mb": round(size / 1e6)}))
        step("publish", store)
        step("publish", store)
        step("lookup", store)
        changed = random.Random(1).sample(sorted(keys), given.videos // 100)
        make(store, "2", {video_id: key(f"second {video_id}") for video_id in changed}, given.rows)
        step("publish", store)
        step("lookup", store)
        step("areas", store)
        step("optimize", store)
        step("lookup", store)
        step("areas", store)


if __name__ == "__main__":
    main()
