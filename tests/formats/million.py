"""`python -m tests.formats.million FOLDER`: peak memory in MiB of work on a million mask rows, as JSON at the end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from tests.formats.conftest import VIDEOS, labels_of, part
from tests.formats.test_export import publish

ROWS = int(os.environ.get("ROWS", "1_000_000"))

RUN = """
import json, resource, sys
from jobs import {module}
code = {module}.main({arguments!r})
print(json.dumps([code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]))
"""


def make(folder: Path) -> int:
    """Published labels of a million rows, written a thousand videos at a time."""
    small = labels_of(*(part(name, {0: "cat", 1: "dog", 7: None}) for name in VIDEOS))
    publish(type(small)(*(table.slice(0, 0) for table in small)), folder)
    rows = videos = 0
    while rows < ROWS:
        for name in small._fields:
            tables = [renamed(getattr(small, name), f"{videos + i * len(VIDEOS):07}-") for i in range(500)]
            table = pa.concat_tables(tables)
            write_deltalake(f"{folder}/{name}", table.sort_by("video_id"), mode="append")
            if name == "masks":
                rows += table.num_rows
        videos += 500 * len(VIDEOS)
    return rows


def renamed(table: pa.Table, prefix: str) -> pa.Table:
    ids = pc.binary_join_element_wise(prefix, table.column("video_id"), "")
    return table.set_column(0, table.schema.field(0), ids)


def measured(module: str, arguments: list[str]) -> int:
    start = time.perf_counter()
    script = RUN.format(module=module, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    code, peak = json.loads(done.stdout.splitlines()[-1])
    print(f"{module} {' '.join(arguments)}: exit code {code}, {peak} MiB, {time.perf_counter() - start:.0f} s")
    assert code == 0, done.stderr
    return int(peak)


def main() -> None:
    folder = Path(sys.argv[1])
    output = str(folder / "labels")
    print(f"{make(Path(output))} rows")
    peaks = {
        "nothing": measured(
            "export", [output, "--format", "coco", "--to", f"{folder}/a", "--where", "video_id < '0000001'"]
        )
    }
    peaks["coco"] = measured("export", [output, "--format", "coco", "--to", f"{folder}/coco", "--split", "val=0.1"])
    peaks["mots"] = measured("export", [output, "--format", "mots", "--to", f"{folder}/mots", "--split", "val=0.1"])
    peaks["evaluate"] = measured("evaluate", [output, "--truth", output, "--workers", "1"])
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
