"""A detector's boxes, from a file, become a manifest and then labels, over the demo's corpus."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import label, manifest
from pipeline.demo.corpus import make_corpus
from pipeline.masks import rle
from pipeline.tables.query import open_labels

pytestmark = pytest.mark.slow

SEED = 7
NOISE_PX = 2.0
MISSED = 0.2
"""Of the boxes."""


def detect(corpus: Path) -> pa.Table:
    """A fixed detector: tight boxes, each side a little off, some missed, and a false one a video."""
    rng = np.random.default_rng(SEED)
    rows: list[dict[str, Any]] = []
    for true in pq.read_table(corpus / "truth.parquet").to_pylist():
        video_id, frame = true["video_id"], true["frame_index"]
        if frame == 0 and true["object_id"] == 1:
            false = {"x_min": 1.0, "y_min": 1.0, "x_max": 30.0, "y_max": 30.0}
            rows.append({"video_id": video_id, "frame_index": 0, "score": 0.2, **false})
        if true["area"] < 200 or rng.random() < MISSED:
            continue
        box = rle.bbox(true["counts"], (true["height"], true["width"]))
        assert box
        sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), np.add(box, rng.normal(0, NOISE_PX, 4)), strict=True))
        rows.append({"video_id": video_id, "frame_index": frame, "score": 0.9, **sides})
    return pa.Table.from_pylist(rows)


def test_detections_become_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_corpus(tmp_path / "corpus")
    pq.write_table(detect(tmp_path / "corpus"), tmp_path / "detections.parquet")
    code = manifest.main(
        [
            *(
                "from-detections",
                "--detections",
                f"{tmp_path}/detections.parquet",
                "--every",
                "24f",
                "--refine",
                "every",
            ),
            *("--match-iou", "0.3", "--min-score", "0.5", "--output", f"{tmp_path}/manifest.parquet"),
            *("--uri-template", f"{tmp_path}/corpus/videos/{{video_id}}.mp4"),
        ]
    )
    assert code == 0
    labels = ["--manifest", f"{tmp_path}/manifest.parquet", "--output", f"{tmp_path}/labels", "--model", "embedded"]
    assert label.main([*labels, "--actors", "1"]) == 0
    print(capsys.readouterr().out)

    truth: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for row in pq.read_table(tmp_path / "corpus" / "truth.parquet").to_pylist():
        truth.setdefault((row["video_id"], row["object_id"]), {})[row["frame_index"]] = row
    masks: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    with open_labels(tmp_path / "labels") as opened:
        for video_id, object_id, *rest in opened.sql(
            "SELECT video_id, object_id, frame_index, counts, height, width FROM masks WHERE NOT is_prompted"
        ).fetchall():
            masks.setdefault((video_id, object_id), []).append(tuple(rest))
    best: dict[tuple[str, int], float] = dict.fromkeys(truth, 0.0)
    for (video_id, object_id), rows in masks.items():
        scores = {
            key: np.mean([rle.iou(counts, frames[at]["counts"], (high, wide)) for at, counts, high, wide in rows])
            for key, frames in truth.items()
            if key[0] == video_id
        }
        key = max(scores, key=lambda each: scores[each])
        print(f"{video_id} {object_id}: J {scores[key]:.3f} with {key[1]}, {len(rows)} frames")
        best[key] = max(best[key], float(scores[key]))
    print(f"{len(masks)} masklets of {len(truth)} objects, mean J of the objects {np.mean(list(best.values())):.3f}")
    assert np.mean(list(best.values())) > 0.5
