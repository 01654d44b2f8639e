"""A million detections of 10,000 videos: the driver's time and memory for the table, all new and one video changed.

python -m tests.benchmarks.detection_table [VIDEOS]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.detection import read_video
from pipeline.detection.part import DetectionRows, Look
from pipeline.detection.publication import publish_detections
from pipeline.storage import Store
from pipeline.storage.paths import DETECTIONS_TABLE, part_path
from pipeline.tables.output import claim_output

LOOKS, BOXES = 20, 5


def main(videos: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        claim_output(store, "detections")
        random = np.random.default_rng(0)
        for number in range(videos):
            _commit(store, f"video-{number:06}", "1" * 64, random)
        wanted = {f"video-{number:06}": "1" * 64 for number in range(videos)}
        before = _memory()
        all_new, published = _timed(lambda: publish_detections(store, wanted))
        _commit(store, "video-000007", "2" * 64, random)
        one, _ = _timed(lambda: publish_detections(store, wanted | {"video-000007": "2" * 64}))
        none, _ = _timed(lambda: publish_detections(store, wanted | {"video-000007": "2" * 64}))
        lookup, found = _timed(lambda: read_video(store.uri_of(DETECTIONS_TABLE), f"video-{videos // 2:06}"))
        size = (Path(folder) / DETECTIONS_TABLE).stat().st_size
        print(
            f"{published.rows} rows of {videos} videos: all new {all_new:.1f} s, one changed {one:.1f} s, none changed "
            f"{none:.2f} s, one video read in {1000 * lookup:.0f} ms ({found.table.num_rows} rows); "
            f"{size / 2**20:.0f} MiB; memory +{_memory() - before:.0f} MiB"
        )


def _commit(store: Store, video_id: str, key: str, random: np.random.Generator) -> None:
    rows = DetectionRows(video_id, height=720, width=1280)
    for second in range(LOOKS):
        corners = random.uniform(0, 600, (BOXES, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + random.uniform(8, 100, (BOXES, 2)).astype(np.float32)], axis=1)
        scores = random.uniform(0.3, 1, BOXES).astype(np.float32)
        rows.add(Look(time_s=float(second), boxes=boxes, scores=scores, categories=["car"] * BOXES, masks=None))
    store.commit_once(part_path(video_id, key), rows.to_parquet({}))


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
