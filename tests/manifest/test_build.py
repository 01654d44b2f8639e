"""A manifest of a folder or bucket: one odd file is listed with its reason, and the others are built."""

import os
from pathlib import Path

import fsspec
import pytest

from jobs.manifest import main
from pipeline.manifest import read_manifest
from pipeline.manifest.build import derived_id
from pipeline.storage.paths import quote_id
from pipeline.video.content import content_version, open_uri
from tests.clips import write_clip
from tests.video.pictures import write_exif_avi, write_folder, write_palette_avi

Capture = pytest.CaptureFixture[str]
LONG = "名" * 34


def build(folder: Path | str, output: Path, *more: str) -> int:
    return main(["build", str(folder), "--output", str(output), "--overwrite", *more])


def ids(output: Path) -> list[str]:
    return sorted(read_manifest(output).table["video_id"].to_pylist())


def test_odd_files_do_not_end_a_build(tmp_path: Path, capsys: Capture) -> None:
    folder, output = tmp_path / "odd", tmp_path / "m.parquet"
    folder.mkdir()
    write_clip(folder / "good.mp4")
    write_exif_avi(folder / "exif.avi")
    write_palette_avi(folder / "palette.avi")
    (folder / f"{LONG}.mp4").write_bytes((folder / "good.mp4").read_bytes())
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4")).write_bytes((folder / "good.mp4").read_bytes())
    (folder / "empty.mov").write_bytes(b"")
    (folder / "._good.mp4").write_bytes(b"resource fork")
    (folder / "notes.txt").write_text("mine")
    assert build(folder, output) == 3
    shown = capsys.readouterr()
    latin = derived_id(os.fsdecode(b"caf\xe9.mp4"))
    assert latin.startswith("café-")
    assert ids(output) == sorted(["good.mp4", "exif.avi", "palette.avi", latin, derived_id(f"{LONG}.mp4")])
    assert "5 videos with 5 prompts; 1 left out" in shown.out
    assert "empty.mov" in shown.err
    assert "not videos by their name: 1 .txt" in shown.err
    uris = {video.video_id: video.video_uri for video in map(read_manifest(output).video, range(5))}
    assert uris[derived_id(f"{LONG}.mp4")] == str(folder / f"{LONG}.mp4")
    assert uris[latin] == f"file://{folder}/caf%E9.mp4"
    with open_uri(uris[latin]) as (reader, version):
        assert len(list(reader.forward())) == 8
        assert content_version(uris[latin]) == version


def test_a_derived_id_is_short_stable_and_its_own() -> None:
    assert derived_id("deep/a.mp4") == "deep/a.mp4"
    long = f"deep/{LONG}.mp4"
    assert derived_id(long) == derived_id(long)
    assert derived_id(long) != derived_id(f"deeper/{LONG}.mp4")
    assert derived_id(long).startswith("名" * 20 + "-")
    assert derived_id(long).endswith(".mp4")
    for path in (long, "_" + "x" * 198 + ".mp4", "a" * 500, "a." + "é" * 300, "/".join("名" * 30)):
        quote_id(derived_id(path))


def test_camera_suffixes_are_found_and_links_followed_or_named(tmp_path: Path, capsys: Capture) -> None:
    clip = Path(write_clip(tmp_path / "clip.mp4"))
    folder, output = tmp_path / "videos", tmp_path / "m.parquet"
    folder.mkdir()
    names = ["a.MTS", "b.m2ts", "c.mxf", "d.insv", "e.3gp", "f.360", "g.LRV"]
    for name in names:
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "link.mp4").symlink_to(clip)
    (folder / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "other").mkdir()
    write_clip(tmp_path / "other" / "far.mp4")
    (folder / "elsewhere").symlink_to(tmp_path / "other", target_is_directory=True)
    assert build(folder, output) == 3
    assert ids(output) == sorted([*names, "link.mp4", "elsewhere/far.mp4"])
    shown = capsys.readouterr()
    assert "dangling.mp4': a link to a file that is not there" in shown.err
    assert "9 videos with 9 prompts; 1 left out" in shown.out


def test_a_folder_without_videos_says_what_it_holds(tmp_path: Path, capsys: Capture) -> None:
    def told(folder: Path, *more: str) -> str:
        assert build(folder, tmp_path / "m.parquet", *more) == 2
        return capsys.readouterr().err

    write_folder(tmp_path / "pictures" / "deep", ["0.png", "1.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    assert "but 2 pictures; a folder of pictures is one video" in told(tmp_path / "pictures")
    assert "it holds no files" in told(tmp_path / "empty")
    assert "it holds 1 .txt" in told(tmp_path / "texts")
    assert "gone is not there" in told(tmp_path / "gone")
    assert "a.txt is a file, not a folder" in told(tmp_path / "texts" / "a.txt")


def test_keys_that_are_no_paths_do_not_end_a_build(tmp_path: Path, capsys: Capture) -> None:
    clip = Path(write_clip(tmp_path / "clip.mp4")).read_bytes()
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/build/good.mp4", clip)
    memory.store["/build/deep//a.mp4"] = memory.store["/build/good.mp4"]
    assert build("memory://build", tmp_path / "m.parquet", "--size", "96x64") == 3
    assert ids(tmp_path / "m.parquet") == ["good.mp4"]
    assert "'deep//a.mp4': the key has an empty segment" in capsys.readouterr().err
