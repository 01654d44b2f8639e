"""validate --probe opens the videos; coordinates between 0 and 1 are warned of."""

from pathlib import Path
from typing import Any

import pytest

from jobs.manifest import main
from pipeline.manifest import read_manifest
from pipeline.manifest.normalized import normalized_notes, normalized_rows
from pipeline.runs.config import RunConfig
from pipeline.runs.prepare import prepare
from tests.clips import green, point, red, write_clip, write_manifest
from tests.manifest.manifest_examples import BOX, MASK, POINT, prompt, row
from tests.video.pictures import write_folder


def test_each_misfitting_prompt_is_listed_and_the_check_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = write_clip(tmp_path / "v.mp4", frames=5)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    far = [point(500, 1), point(1, 900), point(5, 5)]
    rows = [
        {"video_id": "good", "video_uri": uri, "prompts": [red(), green(4), red(object_id=3) | {"frame_index": 2}]},
        {"video_id": "broken", "video_uri": str(tmp_path / "broken.mp4"), "prompts": [red()]},
        {"video_id": "absent", "video_uri": str(tmp_path / "absent.mp4"), "prompts": [red()]},
        {
            "video_id": "misfits",
            "video_uri": uri,
            "prompts": [
                {"object_id": 1, "frame_index": 0, "points": far},
                {"object_id": 2, "frame_index": 99, "box": {"x_min": 200, "y_min": 1, "x_max": 220, "y_max": 9}},
                {"object_id": 3, "time_s": 7.0, "points": [point(5, 5)]},
                {"object_id": 4, "time_s": 0.15, "mask": MASK},
                {"object_id": 1, "time_s": 0.05, "points": [point(5, 5)]},
            ],
        },
        {"video_id": "folder", "video_uri": str(write_folder(tmp_path / "f", ["0.png", "1.png"])), "fps": 1.0,
         "prompts": [red() | {"frame_index": None, "time_s": 1.5}, green(2)]},
        {"video_id": "ends", "video_uri": uri, "prompts": [
            red(1, until_s=0.1), green(0, until_frame=2), green(3, correct=True), red(0, object_id=3, until_s=9.0)
        ]},
    ]  # fmt: skip
    path = write_manifest(tmp_path / "m.parquet", rows)
    assert main(["validate", path, "--probe"]) == 3
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    size = "the frame is 96 x 64 pixels (width x height)"
    assert [line.partition(": ")[0] for line in lines] == [
        "row 1, video_id 'broken'",
        "row 2, video_id 'absent'",
        "row 3, video_id 'misfits', object 1, frame 0",
        "row 3, video_id 'misfits', object 1, frame 0",
        "row 3, video_id 'misfits', object 1, 0.05 s",
        "row 3, video_id 'misfits', object 2, frame 99",
        "row 3, video_id 'misfits', object 2, frame 99",
        "row 3, video_id 'misfits', object 3, 7 s",
        "row 3, video_id 'misfits', object 4, 0.15 s",
        "row 4, video_id 'folder', object 2, frame 2",
        "row 5, video_id 'ends', object 1, frame 1",
        "row 5, video_id 'ends', object 2, frame 3",
    ]
    assert lines[2].endswith(f"point (500, 1) lies outside the frame; {size}")
    assert lines[3].endswith(f"point (1, 900) lies outside the frame; {size}")
    assert lines[4].endswith("a second prompt of this object on frame 0")
    assert "frame 99 is beyond the end" in lines[5]
    assert lines[6].endswith(f"box (200, 1, 220, 9) lies outside the frame; {size}")
    assert lines[8].endswith(f"the mask's size [height, width] is [4, 3]; {size}")
    assert "6 videos probed; 12 problems in 5 of them" in shown.out
    assert main(["validate", write_manifest(tmp_path / "good.parquet", rows[:1]), "--probe"]) == 0


SHARES: dict[str, tuple[dict[str, Any], bool]] = {
    "points": (row(prompt(points=[POINT | {"x": 0.5, "y": 1.0}])), True),
    "box": (row(prompt(box={"x_min": 0.1, "y_min": 0.0, "x_max": 0.9, "y_max": 1.0})), True),
    "box in pixels": (row(), False),
    "mask alone": (row(prompt(mask=MASK)), False),
    "one of two prompts": (row(prompt(), prompt(object_id=2, points=[POINT | {"x": 0.5, "y": 0.5}])), False),
    "points beside a box": (row(prompt(box=BOX, points=[POINT | {"x": 0.5, "y": 0.5}])), False),
    "beside a mask": (row(prompt(mask=MASK), prompt(object_id=2, points=[POINT | {"x": 0.5, "y": 0.5}])), True),
}


def test_videos_whose_coordinates_are_all_shares_are_found(write: Any) -> None:
    manifest = read_manifest(write([each | {"video_id": name} for name, (each, _) in SHARES.items()]))
    found = manifest.table["video_id"].take(normalized_rows(manifest)).to_pylist()
    assert found == [name for name, (_, shares) in SHARES.items() if shares]


def test_validate_and_the_plan_warn_of_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    share = red() | {"points": [point(0.4, 0.6)]}
    rows = [
        {"video_id": f"v{at}", "video_uri": write_clip(tmp_path / f"{at}.mp4", frames=1), "prompts": [share]}
        for at in range(5)
    ]
    path = write_manifest(tmp_path / "m.parquet", rows)
    assert main(["validate", path]) == 0
    warning = "points and boxes of 5 videos lie between 0 and 1 (row 0 'v0', row 1 'v1', row 2 'v2' and 2 more)"
    assert f"warning: {warning}; coordinates are pixels" in capsys.readouterr().err
    prepared = prepare(RunConfig(manifest=path, output=str(tmp_path / "out"), model="embedded"))
    assert prepared.notes[0].startswith(warning)
    assert (
        normalized_notes(read_manifest(write_manifest(tmp_path / "n.parquet", [rows[0] | {"prompts": [red()]}]))) == []
    )
