"""Ask the same of the tables and of the parts, on an S3 server that answers late: requests, bytes and seconds.

    python tests/benchmarks/query.py [--videos 300] [--rows 2000] [--delay 0.03]

SeaweedFS behind a proxy that holds every request back. The questions: the mean area by category over all videos, and
the masks of one video.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.storage import Store
from pipeline.tables import optimize, publish
from tests.benchmarks.publish import key, make
from tests.proxy import Proxy
from tests.s3 import BUCKET, SeaweedFS

TIMED = """
import sys, time
from pipeline.tables.query import open_labels
from pipeline.storage import Store, part_path
from pipeline.labels import read_part
import duckdb, pyarrow as pa
from concurrent.futures import ThreadPoolExecutor
store = Store(sys.argv[1])
started = time.perf_counter()
{question}
print(f"{{time.perf_counter() - started:.2f}} s  {{answer}}")
"""
AREAS = "SELECT category, round(avg(area)) FROM masks JOIN masklets USING (video_id, object_id) GROUP BY 1"
QUESTIONS = {
    "areas by category, tables": f"answer = open_labels(store).sql({AREAS!r}).fetchall()",
    "areas by category, parts": (
        "paths = [entry.path for shard in store.list_sharded('parts') for entry in shard]\n"
        "with ThreadPoolExecutor(16) as threads:\n"
        "    parts = list(threads.map(lambda path: read_part(store.read(path)), paths))\n"
        "con = duckdb.connect()\n"
        "con.register('masks', pa.concat_tables([p.masks.select(['video_id', 'object_id', 'area']) for p in parts]))\n"
        "con.register('masklets', pa.concat_tables([p.masklets for p in parts]))\n"
        f"answer = con.sql({AREAS!r}).fetchall()"
    ),
    "one video, tables": (
        "question = \"SELECT count(*), sum(area) FROM masks WHERE video_id = 'v000077'\"\n"
        "answer = open_labels(store).sql(question).fetchall()"
    ),
    "one video, part": (
        "found = read_part(store.read(part_path('v000077', sys.argv[2]))).masks\n"
        "answer = [(found.num_rows, sum(found['area'].to_pylist()))]"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--rows", type=int, default=2000, help="mask rows of each video")
    parser.add_argument("--delay", type=float, default=0.03, help="seconds by which each request is late")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = SeaweedFS(Path(folder))
        server.start()
        try:
            os.environ |= server.env()
            store = Store(f"s3://{BUCKET}/out")
            keys = {f"v{at:06}": key(f"first {at}") for at in range(given.videos)}
            make(store, "1", keys, given.rows)
            publish(store)
            optimize(store)
            with Proxy(server.endpoint, delay_s=given.delay) as proxy:
                os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
                for name, question in QUESTIONS.items():
                    proxy.reset()
                    code = TIMED.format(question=question)
                    done = subprocess.run(
                        [sys.executable, "-c", code, store.uri, keys["v000077"]],
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                    if done.returncode:
                        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
                    print(
                        f"{name:26} {sum(proxy.requests.values()):5} requests  {proxy.received / 1e6:7.2f} MB  "
                        f"{done.stdout.strip()}",
                        flush=True,
                    )
        finally:
            server.kill()


if __name__ == "__main__":
    main()
