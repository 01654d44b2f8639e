"""Preview, report, review and export show the very pictures that were labelled, of folders, zips and segments."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jobs import export, preview, report, review
from pipeline.manifest import read_manifest
from pipeline.tables.query import open_labels
from pipeline.video.content import open_labelled
from tests.clips import point
from tests.video.pictures import number_of, write_folder, write_zip
from tests.views.labelled import write_labels

NAMES = [f"{index:04d}.png" for index in range(20)]
PROMPT = {"object_id": 1, "frame_index": 0, "points": [point(31, 40)]}
SHOWN = {"folder": range(20), "zip": range(20), "segment": range(10, 15)}
"""Pictures of each video that the labels speak of."""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a folder, a zip, and half a second of a zip at 10 pictures a second."""
    root = tmp_path_factory.mktemp("sequences")
    folder, packed = write_folder(root / "folder", NAMES), write_zip(root / "packed.zip", NAMES)
    rows = [
        {"video_id": "folder", "video_uri": str(folder), "prompts": [PROMPT], "fps": 5.0},
        {"video_id": "zip", "video_uri": str(packed), "prompts": [PROMPT], "fps": 10.0},
        {
            "video_id": "segment",
            "video_uri": str(packed),
            "prompts": [PROMPT],
            "fps": 10.0,
            "start_s": 1.0,
            "end_s": 1.5,
        },
    ]
    return write_labels(root, rows)


def numbers_in(film: Path) -> list[int]:
    with av.open(str(film)) as container:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_the_rate_used_is_in_the_videos_table(output: Path) -> None:
    with open_labels(output) as labels:
        rows = {row["video_id"]: row for row in labels.arrow("videos").to_table().to_pylist()}
    assert {video_id: row["fps"] for video_id, row in rows.items()} == {"folder": 5.0, "zip": 10.0, "segment": 10.0}
    for video_id, row in rows.items():
        with open_labelled(row) as reader:
            assert [number_of(frame.rgb) for frame in reader.forward()] == list(SHOWN[video_id])


@pytest.mark.parametrize("video_id", SHOWN)
def test_export_writes_the_pictures_of_the_masks(output: Path, tmp_path: Path, video_id: str) -> None:
    where = ["--where", f"video_id = '{video_id}'"]
    assert export.main([str(output), "--format", "davis", "--to", str(tmp_path), "--frames", "write", *where]) == 0
    pictures = sorted(tmp_path.rglob("*.jpg"))
    assert [number_of(np.asarray(Image.open(path))) for path in pictures] == list(SHOWN[video_id])


def test_preview_draws_the_pictures_of_the_masks(output: Path, tmp_path: Path) -> None:
    assert preview.main([str(output), "--worst", "9", "--folder", str(tmp_path)]) == 0
    assert {path.stem: numbers_in(path) for path in tmp_path.glob("*.mp4")} == {
        video_id: list(shown) for video_id, shown in SHOWN.items()
    }
    assert len(list(tmp_path.glob("*.png"))) == len(SHOWN)


def test_report_copies_the_pictures_of_the_masks(output: Path, tmp_path: Path) -> None:
    assert report.main([str(output), "--folder", str(tmp_path), "--clips", "copy"]) == 0
    assert len(list((tmp_path / "thumbs").glob("*.jpg"))) == len(SHOWN)
    shown = [numbers_in(tmp_path / "clips" / f"{n}.mp4") for n in range(len(SHOWN))]
    assert shown == [list(SHOWN[video_id]) for video_id in sorted(SHOWN)]


def test_a_reviewed_manifest_keeps_the_rate_and_the_version(output: Path, tmp_path: Path) -> None:
    assert review.main([str(output), "--worst", "9", "--folder", str(tmp_path)]) == 0
    rows = {row["video_id"]: row for row in read_manifest(str(tmp_path / "manifest.parquet")).table.to_pylist()}
    assert {video_id: row["fps"] for video_id, row in rows.items()} == {"folder": 5.0, "zip": 10.0, "segment": 10.0}
    assert (rows["segment"]["start_s"], rows["segment"]["end_s"]) == (1.0, 1.5)
    assert {row["video_version"] for row in rows.values()} == {None}
