"""jobs.preview --manifest draws the prompts of a manifest before anything is labelled."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import preview
from pipeline.masks import rle
from pipeline.storage import Store
from pipeline.views.preview import color_of, file_names
from pipeline.views.preview.draw import draw_frame
from tests.clips import HEIGHT, WIDTH, green, point, red, write_clip, write_manifest
from tests.fixtures_s3 import S3


def circle() -> dict:
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, 10:50, 20:70] = True
    return {"object_id": 3, "frame_index": 2, "mask": {"size": [HEIGHT, WIDTH], "counts": rle.encode(mask)[0]}}


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    """Videos whose prompts can be drawn, in part, or not at all, and a row that breaks a rule."""
    clip = write_clip(tmp_path / "clip.mp4", frames=6)
    timed = {"object_id": 2, "time_s": 0.3, "box": green(3)["box"]}
    rows = [
        {"video_id": "hard/x.mp4", "video_uri": clip, "prompts": [red(category="red square"), timed, circle()]},
        {"video_id": "half", "video_uri": clip, "prompts": [red(), red(40), red(1, 2, points=[point(5000, 3)])]},
        {"video_id": "gone", "video_uri": str(tmp_path / "gone.mp4"), "prompts": [red()]},
        {"video_id": "bad", "video_uri": clip, "prompts": [red(), red()]},
        {"video_id": "found", "video_uri": clip, "prompts": [], "detections": "d.parquet"},
    ]
    return write_manifest(tmp_path / "manifest.parquet", rows)


def test_the_prompts_are_drawn_and_what_is_not_is_named(manifest, tmp_path, capsys):
    folder = tmp_path / "p"
    assert preview.main(["--manifest", manifest, "--folder", str(folder)]) == 3
    said = capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["found.png", "half.png", "hard-x.png"]
    assert "row 1, 'half', not drawn: object 1, frame 40: " in said
    assert "row 1, 'half', not drawn: object 2, frame 1: point (5000, 3) lies outside the frame" in said
    assert "row 2, 'gone' cannot be drawn: " in said
    assert "row 3, video_id 'bad', column prompts[1].frame_index, value 0: a second prompt" in said
    with Image.open(folder / "hard-x.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    for object_id in (1, 2, 3):
        near = np.abs(pixels - np.array(color_of(object_id))).sum(-1) < 24
        assert near.sum() > 50, f"object {object_id} is drawn in its colour"


def test_chosen_videos_alone_are_drawn_and_others_are_not_opened(manifest, tmp_path, capsys):
    folder = tmp_path / "p"
    assert preview.main(["--manifest", manifest, "--folder", str(folder), "--videos", "hard/x.mp4", "found"]) == 0
    assert capsys.readouterr().out.split()[:3] == [str(folder / "hard-x.png"), str(folder / "found.png"), "next:"]
    assert preview.main(["--manifest", manifest, "--folder", str(folder), "--first", "1"]) == 0
    assert preview.main(["--manifest", manifest, "--folder", str(folder), "--video", "nobody"]) == 2
    assert "--video 'nobody' is not in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either OUTPUT, to draw labels, or --manifest"),
        (["out", "--manifest", "m.parquet"], "give either OUTPUT, to draw labels, or --manifest"),
        (["--manifest", "m.parquet", "--worst", "3"], "--worst draws labels of an OUTPUT"),
        (["out", "--first", "3"], "--first belongs to --manifest"),
        (["--manifest", "m.parquet", "--first", "0"], "--first must be at least 1 (got 0)"),
        (["--manifest", "nowhere/m.parquet"], "nowhere/m.parquet"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, message, capsys):
    assert preview.main(options) == 2
    assert message in capsys.readouterr().err


def test_prompts_of_videos_on_s3_are_drawn(s3: S3, tmp_path, capsys):
    store = Store(s3.uri)
    store.put("videos/clip.mp4", Path(write_clip(tmp_path / "clip.mp4", frames=4)))
    rows = [{"video_id": "a/clip", "video_uri": f"{s3.uri}/videos/clip.mp4", "prompts": [red(2)]}]
    store.put("manifest.parquet", Path(write_manifest(tmp_path / "m.parquet", rows)))
    assert preview.main(["--manifest", f"{s3.uri}/manifest.parquet", "--folder", str(tmp_path / "p")]) == 0
    assert capsys.readouterr().out.split()[:2] == [str(tmp_path / "p" / "a-clip.png"), "next:"]


def test_two_masks_on_the_same_pixels_are_both_visible():
    frame = np.zeros((60, 90, 3), np.uint8)
    mask = np.zeros((1, 60, 90), bool)
    mask[0, 5:55, 5:85] = True
    (counts,) = rle.encode(mask)
    rows = [
        {"object_id": object_id, "is_present": True, "counts": counts, "height": 60, "width": 90, "x_min": 5,
         "y_min": 5, "predicted_iou": None}
        for object_id in (1, 2)
    ]  # fmt: skip
    drawn = draw_frame(frame, rows).astype(int)
    for object_id in (1, 2):
        tint = np.abs(drawn - 0.45 * np.array(color_of(object_id))).sum(-1) < 3
        line = np.abs(drawn - color_of(object_id)).sum(-1) < 3
        assert tint.sum() > 1000
        assert line.sum() > 50


def test_files_are_named_by_ids_and_no_two_ids_share_one():
    names = file_names(["hard/x.mp4", "gap.ts", "..", "a/b", "a-b", "A-b", ".mp4", "x" * 300, "<>", "été 1"])
    assert names["hard/x.mp4"] == "hard-x"
    assert names["gap.ts"] == "gap.ts"
    assert names["été 1"] == "été 1"
    assert names["a/b"].startswith("a-b-")
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert all(name and name[0] not in ".-" and "/" not in name and len(name) < 140 for name in names.values())
