"""LeRobot datasets: cameras of episodes as manifest rows, and masks joined back by episode and frame."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from jobs import manifest as manifest_job
from pipeline.formats.export import export_labels
from pipeline.formats.registry import format_of
from pipeline.manifest import read_manifest
from pipeline.masks import rle
from pipeline.storage import Store
from pipeline.video.content import open_uri
from tests.clips import HEIGHT, WIDTH, write_clip
from tests.formats.conftest import labels_of, part

FPS = 10
LENGTHS = (6, 5, 7)
CAMERAS = ("observation.images.top", "observation.images.wrist")
FILES = {0: (0, 0.0), 1: (0, 0.6), 2: (1, 0.0)}
"""Of each episode the number of its file, and where it begins there."""


def write_dataset(root: Path, *, version: str = "v3.0") -> Path:
    """Three episodes of two cameras; the first two share a file."""
    for camera in CAMERAS:
        for number, frames in ((0, LENGTHS[0] + LENGTHS[1]), (1, LENGTHS[2])):
            path = root / f"videos/{camera}/chunk-000/file-{number:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_clip(path, frames=frames, rate=FPS, seed=number)
    rows = []
    for episode, length in enumerate(LENGTHS):
        number, start = FILES[episode]
        row = {"episode_index": episode, "length": length, "tasks": ["push the cube"]}
        for camera in CAMERAS:
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": number}
            row |= {f"videos/{camera}/from_timestamp": start, f"videos/{camera}/to_timestamp": start + length / FPS}
        rows.append(row)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    video = {"dtype": "video", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]}
    info = {
        "codebase_version": version,
        "fps": FPS,
        "features": {**dict.fromkeys(CAMERAS, video), "action": {"dtype": "float32", "shape": [2]}},
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def build(root: Path, output: Path) -> int:
    return manifest_job.main(["build", str(root), "--output", str(output)])


def test_each_camera_of_each_episode_is_a_segment_of_its_file(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "dataset")
    assert build(root, tmp_path / "m.parquet") == 0
    manifest = read_manifest(str(tmp_path / "m.parquet"))
    assert len(manifest) == len(LENGTHS) * len(CAMERAS)
    for video in manifest.videos(range(len(manifest))):
        extra = {
            name: column[0].as_py() for name, column in zip(video.extra.column_names, video.extra.columns, strict=True)
        }
        assert extra["camera"] in CAMERAS
        assert extra["task"] == "push the cube"
        episode = extra["episode_index"]
        assert video.video_id == f"episode-{episode:06d}/{extra['camera']}"
        start = FILES[episode][1]
        with open_uri(video.video_uri) as (whole, _):
            frames = [frame.rgb for frame in whole.forward()]
        with open_uri(video.video_uri, start_s=video.start_s, end_s=video.end_s) as (reader, _):
            segment = [frame.rgb for frame in reader.forward()]
        first = round(start * FPS)
        assert len(segment) == LENGTHS[episode] == video.num_frames
        assert all(np.array_equal(a, b) for a, b in zip(segment, frames[first:], strict=False))


def test_masks_are_joined_with_the_dataset_by_episode_and_frame(tmp_path: Path) -> None:
    parts = []
    for episode, length in enumerate(LENGTHS):
        start = FILES[episode][1]
        times = [start + t / FPS for t in range(length)]
        for camera in CAMERAS:
            facts = {"start_s": start, "end_s": start + length / FPS, "fps": float(FPS)}
            extra = {"episode_index": episode, "camera": camera}
            parts.append(part(f"episode-{episode:06d}/{camera}", {1: "cube"}, times=times, extra=extra, **facts))
    labels = labels_of(*parts)
    done = export_labels(labels.select(), Store(tmp_path / "out"), format_of("lerobot"))
    assert not done.problems
    masks = pyarrow.dataset.dataset(tmp_path / "out/masks", format="parquet").to_table()
    data = pa.table(
        {
            "episode_index": [episode for episode, length in enumerate(LENGTHS) for _ in range(length)],
            "frame_index": [t for length in LENGTHS for t in range(length)],
            "timestamp": pa.array([t / FPS for length in LENGTHS for t in range(length)], pa.float32()),
        }
    )
    assert masks.num_rows == len(data) * len(CAMERAS)
    joined = (
        duckdb.sql(
            "SELECT data.timestamp, masks.* EXCLUDE timestamp, masks.timestamp AS timestamp_of_mask "
            "FROM data JOIN masks USING (episode_index, frame_index)"
        )
        .to_arrow_table()
        .to_pylist()
    )
    assert len(joined) == sum(LENGTHS) * len(CAMERAS)
    for row in joined:
        assert row["timestamp"] == pytest.approx(row["timestamp_of_mask"], abs=1e-4)
        assert (row["object_id"], row["category"]) == ([1], ["cube"])
        assert rle.decode(row["counts"][0], (row["height"], row["width"])).any()


def test_other_videos_are_left_out_of_the_export_and_named(tmp_path: Path) -> None:
    done = export_labels(labels_of(part("v", {1: None})).select(), Store(tmp_path / "out"), format_of("lerobot"))
    assert "video 'v' has no episode_index and camera; build the manifest from a LeRobot dataset" in str(
        done.problems[0]
    )


def test_datasets_that_cannot_be_read_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(write_dataset(tmp_path / "old", version="v2.1"), tmp_path / "m.parquet") == 2
    assert "is a LeRobot dataset v2.1; v3 is read: convert it" in capsys.readouterr().err
    root = write_dataset(tmp_path / "gap")
    (root / f"videos/{CAMERAS[0]}/chunk-000/file-001.mp4").unlink()
    assert build(root, tmp_path / "m.parquet") == 3
    said = capsys.readouterr().err
    assert "file-001.mp4 is missing; it holds episode 2 of camera observation.images.top" in said
    (root / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"no table")
    assert build(root, tmp_path / "m2.parquet") == 2
    assert "cannot be read as metadata of episodes" in capsys.readouterr().err
