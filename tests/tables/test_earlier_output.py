"""An output labelled by release 0.1.0 (commit 114a87c), half of it published, is read, resumed and published."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import doctor, label
from pipeline.labels import read_part
from pipeline.labels.failures import read_failures
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare
from pipeline.runs.run import label_corpus
from pipeline.storage import Store
from pipeline.tables.query import open_labels
from tests.clips import write_manifest

FIXTURE = Path(__file__).parent / "output_114a87c"
STAGED = {"b": "6408a5471a815d24ab12f343a0dfc00ec5e097760980c840036f4dbe36964f01",
          "c": "3a274073c190e02ab1a3dd07ba3f5f559dcc4d0a465bf02d9209b4b0f2bad567"}  # fmt: skip
PUBLISHED = {"a": "9bfcdd9a99ec7ba8f239dbc9f7e897d8ce1b11c169824271dc7b10d0114530c2",
             "b": "3c02df7e50a6b187f6c42665e1f9177386cfd9526147c455872be74e0040ac51"}  # fmt: skip
TABLES = ("masks", "masklets", "videos")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the fixture whose manifest names the copied clips."""
    shutil.copytree(FIXTURE, tmp_path, dirs_exist_ok=True)
    rows = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    write_manifest(
        tmp_path / "manifest.parquet", [row | {"video_uri": str(tmp_path / row["video_uri"])} for row in rows]
    )
    return tmp_path


def config(folder: Path) -> RunConfig:
    return RunConfig(
        manifest=str(folder / "manifest.parquet"), output=str(folder / "output"), model="embedded", actors=1
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(output: Path, name: str) -> list[dict[str, Any]]:
    with open_labels(str(output)) as labels:
        found = labels.arrow(name).to_table().to_pylist()
    return sorted(found, key=lambda row: (row["video_id"], row.get("object_id", 0), row.get("frame_index", 0)))


def keys_of(output: Path) -> dict[str, str]:
    return {row["video_id"]: row["label_key"] for row in rows_of(output, "videos")}


def test_its_published_labels_are_read(folder: Path) -> None:
    assert keys_of(folder / "output") == PUBLISHED
    assert [len(rows_of(folder / "output", name)) for name in TABLES] == [11, 2, 2]
    (failure,) = read_failures(Store(folder / "output"))
    assert (failure.video_id, failure.failure_class) == ("broken", "not_a_video")


def test_nothing_of_it_is_pending(folder: Path) -> None:
    plan = prepare(config(folder)).plan
    assert dict(zip(plan.table["video_id"].to_pylist(), plan.table["state"].to_pylist(), strict=True)) == {
        "a": "labelled", "b": "labelled", "c": "labelled", "broken": "quarantined",
    }  # fmt: skip
    assert len(plan.order) == 0
    assert label.main(["--manifest", str(folder / "manifest.parquet"), "--output", str(folder / "output"),
                       "--model", "embedded", "--dry-run"]) == 0  # fmt: skip


def test_a_run_publishes_the_rest_of_it_and_relabels_nothing(folder: Path) -> None:
    output = folder / "output"
    parts, of_a = files(output / "parts"), [row for row in rows_of(output, "masks") if row["video_id"] == "a"]
    report = label_corpus(config(folder))
    assert report.labelled == 0
    assert report.published is not None
    assert report.published.videos == 2
    assert files(output / "parts") == parts
    assert keys_of(output) == PUBLISHED | STAGED
    masks, masklets, videos = (rows_of(output, name) for name in TABLES)
    assert [row for row in masks if row["video_id"] == "a"] == of_a
    for video_id, key in (PUBLISHED | STAGED).items():
        (path,) = (output / "parts").glob(f"*/{video_id}/{key}.parquet")
        part = read_part(path)
        for rows, own in ((masks, part.masks), (masklets, part.masklets), (videos, part.video)):
            expected = own.drop_columns([name for name in ("published_at",) if name in own.schema.names]).to_pylist()
            assert [
                {name: row[name] for name in expected[0]} for row in rows if row["video_id"] == video_id
            ] == expected
    assert doctor.main([str(output)]) == 0
