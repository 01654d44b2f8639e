"""Numbers of frames that a plan reads from the headers of pending videos."""

import threading
from pathlib import Path
from typing import Any

import pytest

from jobs.console import show_plan
from pipeline.runs.config import RunConfig
from pipeline.runs.lengths import probe_lengths
from pipeline.runs.prepare import Prepared, prepare
from pipeline.video.headers import Length, read_length
from tests.clips import red, write_clip, write_manifest

FRAMES = (4, 7, 12, 20)


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Rows of clips with these many frames at 10 frames a second, without num_frames."""
    return [
        {
            "video_id": f"v{frames}",
            "video_uri": write_clip(tmp_path / f"{frames}.mp4", frames=frames),
            "prompts": [red()],
        }
        for frames in FRAMES
    ]


def planned(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Prepared:
    manifest = write_manifest(folder / "manifest.parquet", rows)
    return prepare(RunConfig(model="embedded", manifest=manifest, output=str(folder / "out"), **options))


def test_a_plan_counts_the_frames_that_headers_give(tmp_path: Path, rows, capsys) -> None:
    prepared = planned(tmp_path, rows)
    assert prepared.plan.table["frames"].to_pylist() == list(FRAMES)
    assert [prepared.plan.table["video_id"][int(row)].as_py() for row in prepared.plan.order] == [
        "v20",
        "v12",
        "v7",
        "v4",
    ]
    show_plan(prepared)
    said = capsys.readouterr().out
    assert "4 videos pending, 43 frames and 4 objects\nframes of 4 videos from headers\n" in said


def test_segments_label_rates_and_image_folders_have_their_own_frames(tmp_path: Path, rows) -> None:
    (tmp_path / "images").mkdir()
    for name in ("1.png", "2.png", "3.png", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"")
    rows[3] |= {"start_s": 0.5, "end_s": 1.5}
    rows[2] |= {"label_fps": 5.0}
    rows[0] |= {"video_uri": f"{tmp_path}/images/"}
    assert planned(tmp_path, rows).plan.table["frames"].to_pylist() == [3, 7, 6, 10]


def test_videos_without_a_readable_header_are_counted_as_guesses(tmp_path: Path, rows, capsys) -> None:
    (tmp_path / "4.mp4").write_bytes(b"no video" * 5000)
    rows[1] |= {"num_frames": 7}
    show_plan(planned(tmp_path, rows))
    said = capsys.readouterr().out
    assert "4 videos pending, about " in said
    assert "frames of 1 video from the manifest, 2 videos from headers, 1 video from file sizes" in said


def test_so_many_headers_are_read_and_the_others_scaled_by_them(tmp_path: Path, rows) -> None:
    prepared = planned(tmp_path, rows)
    read: list[str] = []

    def read_three(uri: str, **_: Any) -> Length:
        read.append(uri)
        return Length(frames=1000, fps=10)

    found = probe_lengths(prepared.plan, prepared.manifest.table, storage=prepared.storage, most=3, read=read_three)
    assert (len(read), found.given, found.read, found.guessed) == (3, 0, 3, 1)
    assert found.frames.tolist() == pytest.approx([1000, 1000, 12 * 3000 / (4 + 7 + 20), 1000])


def test_a_header_that_takes_too_long_is_not_waited_for(tmp_path: Path, rows) -> None:
    prepared = planned(tmp_path, rows)
    enough = threading.Event()

    def one_hangs(uri: str, **given: Any) -> Length | None:
        if uri.endswith("12.mp4"):
            enough.wait(60)
        return read_length(uri, **given)

    found = probe_lengths(prepared.plan, prepared.manifest.table, storage=prepared.storage, seconds=0.5, read=one_hangs)
    enough.set()
    assert (found.read, found.guessed) == (3, 1)
