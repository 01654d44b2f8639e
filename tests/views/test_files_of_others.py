"""preview, report, review and demo replace only files that they wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import demo, preview, report, review
from pipeline.storage import Store
from pipeline.tables import publish
from tests.clips import write_clip
from tests.tables.corpora import want
from tests.views.conftest import label


@pytest.fixture
def beside(tmp_path: Path) -> tuple[str, Path]:
    """An output, and the folder of its video `calm`, which lies there as calm.mp4."""
    videos, store = tmp_path / "videos", Store(tmp_path / "out")
    videos.mkdir()
    clip = write_clip(videos / "calm.mp4", frames=4)
    want(store, "run", {"calm": label(store, "calm", clip, frames=4, steady=True)})
    publish(store)
    return store.uri, videos


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_preview_beside_the_videos_replaces_neither_videos_nor_pictures(
    beside: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    output, videos = beside
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(videos / "calm.png")
    (videos / "calm.mp4.part").write_bytes(b"half a download")
    before = contents(videos)
    for only, name in (("film", "calm.mp4"), ("sheet", "calm.png")):
        assert preview.main([output, "--video", "calm", "--folder", str(videos), "--only", only]) == 3
        assert f"{name} was not written by this command, so it is not replaced" in capsys.readouterr().out
        assert contents(videos) == before


def test_a_preview_replaces_an_earlier_one_but_no_download(beside: tuple[str, Path], tmp_path: Path) -> None:
    for _ in range(2):
        assert preview.main([beside[0], "--video", "calm", "--folder", str(tmp_path / "p")]) == 0
        (tmp_path / "p" / "calm.mp4.part").write_bytes(b"half a download")
    assert sorted(contents(tmp_path / "p")) == ["calm.mp4", "calm.mp4.part", "calm.png"]


@pytest.mark.parametrize("name", ["video.html", "index.js", "video.js", "data/0.js", "thumbs/0.jpg", "clips/0.mp4"])
def test_a_report_is_not_written_over_the_site_of_others(
    beside: tuple[str, Path], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert report.main([beside[0], "--folder", str(tmp_path / "site"), "--clips", "copy"]) == 2
    assert f"site/{name.split('/')[0]} is not of a report" in capsys.readouterr().err
    assert contents(tmp_path / "site") == {name: b"mine"}


def test_an_interrupted_report_is_written_again(beside: tuple[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert report.main([beside[0], "--folder", str(tmp_path / "whole")]) == 0
    (site / "data").mkdir(parents=True)
    (site / "index.html").write_text('<meta name="generator" content="sam2-corpus"><p>This report is not complete.')
    assert report.main([beside[0], "--folder", str(site)]) == 0
    assert contents(site).keys() == contents(tmp_path / "whole").keys()


def edit_prompts(folder: Path) -> None:
    path = folder / "prompts.jsonl"
    line = json.loads(path.read_text())
    line["prompts"][0]["points"][0]["x"] = 40
    path.write_text(json.dumps(line) + "\n")


def edit_manifest(folder: Path) -> None:
    table = pq.read_table(folder / "manifest.parquet")
    rows = table.to_pylist()
    rows[0]["prompts"][0]["points"][0]["x"] = 40.0
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), folder / "manifest.parquet")


def remove_prompts(folder: Path) -> None:
    (folder / "prompts.jsonl").unlink()


@pytest.mark.parametrize("edit", [edit_prompts, edit_manifest, remove_prompts])
def test_a_review_does_not_replace_corrections_that_are_not_applied(
    beside: tuple[str, Path], tmp_path: Path, edit: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "review"
    again = [beside[0], "--worst", "1", "--folder", str(folder)]
    assert (review.main(again), review.main(again)) == (0, 0)
    edit(folder)
    before = contents(folder)
    assert review.main(again) == 2
    assert "was changed since a review wrote it" in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["manifest.parquet", "prompts.jsonl"])
def test_a_review_does_not_replace_the_manifest_of_its_folder(
    beside: tuple[str, Path], tmp_path: Path, name: str
) -> None:
    pq.write_table(pa.table({"video_id": ["calm"], "mine": [1]}), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    assert review.main([beside[0], "--worst", "1", "--folder", str(tmp_path)]) == 2
    assert (tmp_path / name).read_bytes() == before
    assert not (tmp_path / "sheets").exists()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_export_of_corrections_replaces_no_file(
    beside: tuple[str, Path], tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"mine")
    assert review.main(["export", beside[0], str(path)]) == 2
    assert "is there already; choose another name" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"


def test_the_demo_is_not_written_over_a_corpus_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "corpus" / "videos").mkdir(parents=True)
    (tmp_path / "corpus" / "videos" / "masks.mp4").write_bytes(b"mine")
    pq.write_table(pa.table({"video_id": ["a"], "video_uri": ["a.mp4"]}), tmp_path / "corpus" / "manifest.parquet")
    before = contents(tmp_path)
    assert demo.main(["--folder", str(tmp_path)]) == 2
    assert "holds files that are not of the demo; choose another --folder" in capsys.readouterr().err
    assert contents(tmp_path) == before
