"""Published labels of any videos, made in this process by the embedded model."""

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.manifest import read_manifest
from pipeline.storage import Store
from pipeline.tables import publish
from pipeline.video.content import content_version
from pipeline.workers.labeler import Labeler
from tests import labelling
from tests.clips import write_manifest


def write_labels(root: Path, rows: list[dict], *, label_rate: str | None = None) -> Path:
    """Label the videos of these manifest rows at a rate and publish them; returns the output."""
    manifest = read_manifest(write_manifest(root / "manifest.parquet", rows))
    assert not manifest.bad_rows
    labeler = Labeler(labelling.settings(root / "out"))
    for at in range(len(manifest)):
        video = manifest.video(at)
        version = content_version(video.video_uri)
        assert version is not None
        task = labelling.task_of(video, label_key=str(at), version=version.token())
        labeler.label(replace(task, label_rate=label_rate))
    keys = {"video_id": [row["video_id"] for row in rows], "label_key": [str(at) for at in range(len(rows))]}
    sink, store = io.BytesIO(), Store(root / "out")
    pq.write_table(pa.table(keys), sink)
    store.put("runs/run/wanted.parquet", sink.getvalue())
    publish(store)
    return root / "out"
