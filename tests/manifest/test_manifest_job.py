"""python -m jobs.manifest, as a user calls it."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest

from jobs.manifest import main
from pipeline.manifest import Manifest, read_manifest
from pipeline.storage import Store, open_source
from tests.manifest.manifest_examples import BOX, prompt, row


def render(path: Path, *, width: int = 64, height: int = 48, frames: int = 5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 20 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    render(tmp_path / "videos/a.mp4")
    render(tmp_path / "videos/deep/b.MP4", width=32, height=32, frames=3)
    (tmp_path / "videos/notes.txt").write_text("no video")
    return tmp_path


def ids(manifest: Manifest) -> list[str]:
    return sorted(manifest.table["video_id"].to_pylist())


def test_build_from_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "m.parquet"
    assert main(["build", str(folder / "videos"), "--output", str(output), "--prompt", "full-frame"]) == 0
    assert "2 videos with 2 prompts; 0 left out" in capsys.readouterr().out
    manifest = read_manifest(output)
    assert ids(manifest) == ["a.mp4", "deep/b.MP4"]
    found = {video.video_id: video for video in map(manifest.video, range(2))}
    assert found["a.mp4"].prompts[0].box == (0, 0, 64, 48)
    assert found["deep/b.MP4"].prompts[0].box == (0, 0, 32, 32)
    assert [found[name].num_frames for name in ids(manifest)] == [5, 3]
    file, version = open_source(found["a.mp4"].video_uri)
    file.close()
    assert found["a.mp4"].video_version == version.token()


def test_build_of_a_known_size_opens_no_video(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "videos/broken.mp4").write_bytes(b"no video")
    arguments = ["build", str(folder / "videos"), "--output", str(folder / "m.parquet"), "--prompt", "points:2x3"]
    assert main([*arguments, "--size", "600x400", "--pattern", "b*.mp4"]) == 0
    manifest = read_manifest(folder / "m.parquet")
    assert ids(manifest) == ["broken.mp4"]
    assert [each.points for each in manifest.video(0).prompts][-1] == ((500, 300, 1),)
    assert main([*arguments, "--overwrite"]) == 3
    shown = capsys.readouterr()
    assert "left out: " in shown.err
    assert "broken.mp4" in shown.err
    assert "2 videos with 12 prompts; 1 left out" in shown.out


def test_build_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "m.parquet"
    assert main(["build", str(folder / "videos"), "--output", str(output), "--pattern", "*.avi"]) == 2
    assert "no videos that match '*.avi'" in capsys.readouterr().err
    assert not output.exists()
    output.write_text("mine")
    assert main(["build", str(folder / "videos"), "--output", str(output)]) == 2
    assert "m.parquet exists already; --overwrite replaces it" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main(["build", str(folder / "videos"), "--output", str(folder / "n.parquet"), "--prompt", "middle"]) == 2
    assert "prompt rule 'middle' is unknown" in capsys.readouterr().err


def test_detections_become_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        {"video_id": video, "frame_index": frame, "category": "cat", "score": 0.8}
        | {"x_min": 10 + frame, "y_min": 20, "x_max": 60.5 + frame, "y_max": 80}
        for video in ("a", "b")
        for frame in range(0, 60, 5)
    ]
    pd.DataFrame(lines).to_csv(tmp_path / "dets.csv", index=False)
    arguments = ["from-detections", "--detections", str(tmp_path / "dets.csv"), "--every", "1s", "--fps", "30"]
    where = ["--uri-template", "s3://bucket/{video_id}.mp4", "--output", str(tmp_path / "m.parquet")]
    assert main([*arguments, *where]) == 0
    assert "2 videos with 4 prompts" in capsys.readouterr().out
    video = read_manifest(tmp_path / "m.parquet").video(1)
    assert video.video_uri == "s3://bucket/b.mp4"
    assert [(each.object_id, each.frame_index, each.category) for each in video.prompts] == [
        (1, 0, "cat"),
        (2, 30, "cat"),
    ]
    assert main([*arguments, *where, "--overwrite", "--match-iou", "0.2"]) == 0
    assert {each.object_id for each in read_manifest(tmp_path / "m.parquet").video(1).prompts} == {1}
    assert main([*arguments, "--output", str(tmp_path / "n.parquet")]) == 2
    assert "give either --videos or --uri-template" in capsys.readouterr().err


def test_results_of_a_tracker_become_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    square = {"size": [48, 64], "counts": [100, 10, 48 * 64 - 110]}
    results = [
        {"image_id": f"clip_{t:06}", "category_id": 1, "bbox": [1 + t, 2, 10, 20], "score": 0.3, "track_id": 5}
        | {"segmentation": square}
        for t in range(40)
    ]
    results.append({"image_id": "clip_000001", "category_id": 1, "bbox": [1, 2], "score": 0.3})
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "names.txt").write_text("person\nsedan\n")
    arguments = ["from-detections", "--detections", str(tmp_path / "results.json"), "--fps", "30", "--overwrite"]
    arguments += ["--names", str(tmp_path / "names.txt"), "--map", "sedan=car", "--output", str(tmp_path / "m.parquet")]
    arguments += ["--uri-template", "s3://bucket/{video_id}.mp4"]
    assert main(arguments) == 3
    shown = capsys.readouterr()
    assert "row 40, video_id 'clip', column bbox, value [1, 2]: must be a list of four numbers" in shown.err
    assert "38 of 40 detections lie between two looks (--every)" in shown.err
    assert "1 video with 1 prompt; 1 left out" in shown.out
    [found] = read_manifest(tmp_path / "m.parquet").video(0).prompts
    assert (found.object_id, found.category, found.box) == (5, "car", None)
    assert found.mask is not None
    assert main([*arguments, "--prompt", "box"]) == 3
    [found] = read_manifest(tmp_path / "m.parquet").video(0).prompts
    assert (found.mask, found.box) == (None, (1, 2, 11, 22))
    assert main([*arguments, "--on-bad-row", "fail"]) == 2
    assert main([*arguments, "--map", "sedam=car"]) == 2
    assert "--map: no detection has the class sedam; the classes are sedan" in capsys.readouterr().err


def test_videos_without_detections_are_left_out(tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame([{"video_id": "a", "time_s": 0.5, "score": 0.9, **BOX}]).to_csv(tmp_path / "d.csv", index=False)
    videos = write([{"video_id": name, "video_uri": "u"} for name in "ab"], "videos.parquet")
    arguments = ["from-detections", "--detections", str(tmp_path / "d.csv"), "--videos", str(videos)]
    arguments += ["--output", str(tmp_path / "m.parquet"), "--overwrite"]
    assert main(arguments) == 3
    shown = capsys.readouterr()
    assert "row 1, video_id 'b', column prompts, value []: empty" in shown.err
    assert "1 video with 1 prompt; 1 left out" in shown.out
    assert main([*arguments, "--on-bad-row", "fail"]) == 2
    assert main([*arguments, "--min-score", "0.5", "--detections", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv: it does not exist" in capsys.readouterr().err


def test_names_that_are_no_ids_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "videos/a.mp4").rename(folder / "videos/a\n.mp4")
    arguments = ["build", str(folder / "videos"), "--output", str(folder / "m.parquet"), "--size", "64x48"]
    assert main(arguments) == 3
    assert r"video_id 'a\n.mp4', column video_id, value 'a\n.mp4': control characters" in capsys.readouterr().err
    assert ids(read_manifest(folder / "m.parquet")) == ["deep/b.MP4"]


def test_flat_prompts_become_a_manifest(tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame([{"video_id": "a", "object_id": 1, "frame_index": 0, **BOX}]).to_csv(tmp_path / "p.csv", index=False)
    videos = write([{"video_id": "a", "video_uri": "s3://bucket/a.mp4", "site": "north"}], "videos.parquet")
    output = str(tmp_path / "m.parquet")
    assert (
        main(["from-prompts", "--prompts", str(tmp_path / "p.csv"), "--videos", str(videos), "--output", output]) == 0
    )
    nested = read_manifest(write([row(prompt(), site="north")], "nested.parquet"))
    assert read_manifest(output).table.equals(nested.table)
    two = write([{"video_id": name, "video_uri": "u"} for name in "ab"], "videos.parquet")
    arguments = ["from-prompts", "--prompts", str(tmp_path / "p.csv"), "--videos", str(two), "--output", output]
    assert main([*arguments, "--overwrite"]) == 2
    assert "row 1, video_id 'b', column prompts, value []: empty" in capsys.readouterr().err
    assert read_manifest(output).table.equals(nested.table)


def test_validate(tmp_path: Path, write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write([row(prompt(), prompt(frame_index=3)), row(video_id="b", video_uri="")]))
    assert main(["validate", path]) == 2
    shown = capsys.readouterr()
    assert "row 1, video_id 'b', column video_uri, value '': empty; every row needs one" in shown.err
    assert "1 valid video, 2 prompts (0 with points, 2 with box, 0 with mask); 1 bad row" in shown.out
    assert main(["validate", str(write([row()]))]) == 0
    assert main(["validate", str(tmp_path / "absent.parquet")]) == 2
    assert "error: cannot open" in capsys.readouterr().err


def test_show(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    off = {"x": 1.5, "y": 2.0, "label": 0}
    rows = [
        row(prompt(points=[off], box=BOX, category="cat"), num_frames=90, site="n\x1b[2J"),
        row(prompt(time_s=0.5, mask={"size": [4, 3], "counts": "525"}), video_id="b", video_uri="https://me:pw@host/b"),
    ]
    path = str(write(rows))
    assert main(["show", path]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "row 0  'a'  's3://bucket/a.mp4'",
        "    num_frames 90, site 'n\\x1b[2J'",
        "    object 1 'cat', frame 0: (1.5, 2) out, box (10, 20, 110.5, 80)",
        "row 1  'b'  'https://***@host/b'",
        "    object 1, 0.5 s: mask 3 x 4",
        "2 of 2 videos; 0 bad rows",
    ]
    assert main(["show", path, "--video-id", "b"]) == 0
    assert "row 0" not in capsys.readouterr().out
    assert main(["show", path, "--video-id", "c"]) == 2
    assert "no valid row has the video_id 'c'" in capsys.readouterr().err


def test_build_from_and_to_a_bucket(folder: Path, s3: Any) -> None:
    videos = Store(f"{s3.uri}/videos")
    for path in ("a.mp4", "deep/b.MP4"):
        videos.put(path, folder / "videos" / path)
    output = f"{s3.uri}/manifests/m.parquet"
    assert main(["build", f"{s3.uri}/videos/", "--output", output, "--prompt", "full-frame"]) == 0
    manifest = read_manifest(output)
    assert ids(manifest) == ["a.mp4", "deep/b.MP4"]
    first = manifest.video(0)
    file, version = open_source(first.video_uri)
    file.close()
    assert first.video_uri == f"{s3.uri}/videos/a.mp4"
    assert first.video_version == version.token()
    assert main(["build", f"{s3.uri}/videos", "--output", output]) == 2


def test_labels_of_another_tool_become_a_manifest(tmp_path, shared, capsys):
    labels = shared / "videos" / "sav_000001_manual.json"
    output = tmp_path / "manifest.parquet"
    arguments = ["from-labels", "--format", "sav", "--labels", str(labels), "--uri-template", "s3://sav/{video_id}.mp4"]
    assert main([*arguments, "--output", str(output)]) == 0
    assert "1 video with" in capsys.readouterr().out
    video = read_manifest(output).video(0)
    assert video.video_uri == "s3://sav/sav_000001.mp4"
    assert all(prompt.mask for prompt in video.prompts)
    assert len({prompt.object_id for prompt in video.prompts}) == len(video.prompts)
