"""Small corpora of made-up labels: parts, and runs that want them."""

import hashlib
import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels import PartBuilder
from pipeline.storage import Store, part_path
from pipeline.tables import dataset
from tests.labelling import mask_rows


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_part(
    video_id: str,
    label_key: str,
    *,
    objects: int = 2,
    frames: int = 5,
    extra: Mapping[str, Any] | pa.Table = MappingProxyType({}),
    **columns: Any,
) -> bytes:
    """A part whose masks tell its key: every area is the key's first byte."""
    area = int(label_key[:2], 16)
    with PartBuilder(video_id, label_key=label_key, height=8, width=8) as builder:
        for frame in range(frames):
            builder.add(
                mask_rows(
                    frame,
                    frame / 25,
                    {
                        "object_id": list(range(objects)),
                        "is_prompted": [frame == 0] * objects,
                        "counts": [f"{object_id}{frame}x" for object_id in range(objects)],
                        "area": [area] * objects,
                        "boxes": [(0, 0, 8, 8)] * objects,
                        "object_logit": [1.5] * objects,
                        "predicted_iou": [0.9] * objects,
                    },
                )
            )
        row = {
            "outcome": "labelled",
            "uri": f"s3://videos/{video_id}",
            "frames": frames,
            "extra": {} if extra is None else extra,
            **columns,
        }
        part = builder.finish(row, masklets={0: {"category": "cat"}})
    assert isinstance(part, bytes)
    return part


def commit(store: Store, video_id: str, label_key: str, **made: Any) -> None:
    store.commit_once(part_path(video_id, label_key), make_part(video_id, label_key, **made))


def run_id(number: int) -> str:
    """A name as runs have it; a greater number is a later run."""
    return f"20260101T000000.{number:06}Z-0000"


def want(store: Store, run: str, keys: Mapping[str, str]) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"video_id": list(keys), "label_key": list(keys.values())}), sink)
    store.put(f"runs/{run}/wanted.parquet", sink.getvalue())


def rows(store: Store, name: str) -> list[dict[str, Any]]:
    table = dataset(store, name)
    assert table is not None
    found: list[dict[str, Any]] = table.to_table().to_pylist()
    return found


def check(store: Store, keys: Mapping[str, str], *, objects: int = 2, frames: int = 5) -> None:
    """All three tables hold each of these videos exactly once, with this key, and no other."""
    masks, masklets, videos = (rows(store, name) for name in ("masks", "masklets", "videos"))
    assert sorted((row["video_id"], row["label_key"]) for row in videos) == sorted(keys.items())
    assert sorted((row["video_id"], row["object_id"], row["label_key"]) for row in masklets) == sorted(
        (video_id, object_id, label_key) for video_id, label_key in keys.items() for object_id in range(objects)
    )
    assert sorted((row["video_id"], row["object_id"], row["frame_index"], row["label_key"]) for row in masks) == sorted(
        (video_id, object_id, frame, label_key)
        for video_id, label_key in keys.items()
        for object_id in range(objects)
        for frame in range(frames)
    )
    assert all(row["area"] == int(row["label_key"][:2], 16) for row in masks)
