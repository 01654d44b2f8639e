"""A small published corpus with real videos and hostile names, its masks made up."""

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.labels import PartBuilder
from pipeline.labels.failures import Failure, write_failure
from pipeline.masks import rle
from pipeline.storage import Store, part_path
from pipeline.tables import publish
from pipeline.tables.query import open_labels
from tests.clips import HEIGHT, WIDTH, write_clip
from tests.labelling import mask_rows

HOSTILE = "</script><img src=x onerror=alert(1)> .. '\""
REVERSED = HOSTILE + "\u202e"
PROMPT = {"object_id": 1, "frame_index": 0, "category": HOSTILE, "points": [{"x": 17, "y": 19, "label": 1}]}
BIG = 2**60 + 1


def label(store: Store, video_id: str, uri: str, *, frames: int, steady: bool) -> str:
    """Commit labels of the two squares of `write_clip`; unsteady ones jump about."""
    key = hashlib.sha256(video_id.encode()).hexdigest()
    with PartBuilder(video_id, label_key=key, height=HEIGHT, width=WIDTH) as builder:
        for t in range(frames):
            masks = np.zeros((2, HEIGHT, WIDTH), bool)
            masks[0, 8:30, 6 + t : 28 + t] = True
            size = 22 if steady else 22 if t % 2 else 4
            masks[1, 34 : 34 + size, 68 - t : 68 - t + size] = True
            counts = rle.encode(masks)
            builder.add(
                mask_rows(
                    t,
                    t / 10,
                    {
                        "object_id": [1, BIG],
                        "is_prompted": [t == 0, t == 0],
                        "counts": counts,
                        "area": masks.sum((1, 2)).tolist(),
                        "boxes": [rle.bbox(each, (HEIGHT, WIDTH)) for each in counts],
                        "object_logit": [9.0, 9.0 if steady else 0.5],
                        "predicted_iou": [0.95, 0.95 if steady else 0.4],
                        "stability": [0.97, 0.97 if steady else 0.5],
                        "parts": [1, 1],
                        "overlap": [0.0, 0.0],
                    },
                )
            )
        row = {
            "outcome": "labelled", "uri": uri, "frames": frames, "fps": 10.0, "height": HEIGHT, "width": WIDTH,
            "model": "embedded", "total_s": 1.0, "run_id": "run", "prompts": json.dumps([PROMPT]),
        }  # fmt: skip
        part = builder.finish(row, masklets={1: {"category": REVERSED}})
    assert isinstance(part, bytes)
    store.commit_once(part_path(video_id, key), part)
    return key


@pytest.fixture(scope="session")
def output(tmp_path_factory):
    """Three videos: one calm, one wild with a hostile name, one whose file is gone; and a failure."""
    folder = tmp_path_factory.mktemp("labels")
    store = Store(folder / "out")
    clip = write_clip(folder / "clip.mp4", frames=8)
    keys = {
        "calm": label(store, "calm", clip, frames=8, steady=True),
        HOSTILE: label(store, HOSTILE, clip, frames=8, steady=False),
        "gone": label(store, "gone", str(folder / "gone.mp4"), frames=8, steady=True),
    }
    sink = io.BytesIO()
    pq.write_table(pa.table({"video_id": list(keys), "label_key": list(keys.values())}), sink)
    store.put("runs/run/wanted.parquet", sink.getvalue())
    failure = Failure(
        video_id=REVERSED, label_key="b" * 64, failure_class="<b>x", message="<script>alert(2)</script>", traceback="",
        worker="w", time="2026-01-01T00:00:00+00:00", run_id="run", attempts=[],
    )  # fmt: skip
    write_failure(store, failure)
    publish(store)
    return folder / "out"


@pytest.fixture
def labels(output):
    with open_labels(output) as opened:
        yield opened
