"""Films and reports of videos that are labelled at a rate show the masks of the nearest labelled frame."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.preview import main as preview
from jobs.report import main as report
from pipeline.tables.query import open_labels
from pipeline.views.preview.labelled import load_videos
from tests.clips import red, write_clip
from tests.views.labelled import write_labels

FRAMES = 20


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third frame and the prompted one; the object ends at frame 10."""
    folder = tmp_path_factory.mktemp("rates")
    clip = write_clip(folder / "clip.mp4", frames=FRAMES)
    rows = [{"video_id": "v", "video_uri": clip, "prompts": [red(0), red(8, until_frame=10)]}]
    return write_labels(folder, rows, label_rate="3f")


def test_frames_show_the_nearest_labelled_frame_and_none_after_the_end(output: Path) -> None:
    with open_labels(str(output)) as labels:
        (video,) = load_videos(labels, ["v"])
    assert sorted(video.frames) == [0, 3, 6, 8, 9]
    shown = [video.nearest(t) for t in range(FRAMES)]
    assert shown[:10] == [0, 0, 3, 3, 3, 6, 6, 6, 8, 9]
    assert shown[10:12] == [9, 9]
    assert shown[12:] == [*range(12, FRAMES)]


def test_a_film_has_all_frames_and_a_sheet_labelled_ones(output: Path, tmp_path: Path) -> None:
    assert preview([str(output), "--video", "v", "--folder", str(tmp_path / "films")]) == 0
    (film,) = (tmp_path / "films").rglob("*.mp4")
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == FRAMES
    # At frame 4 the square has moved on from the outline of frame 3; at frame 14 no mask is drawn.
    assert np.abs(pictures[4] - pictures[14])[8:30].mean() > 1
    assert list((tmp_path / "films").rglob("*.png"))


def test_the_report_has_the_labelled_frames_and_the_rate(output: Path, tmp_path: Path) -> None:
    assert report([str(output), "--folder", str(tmp_path / "report")]) == 0
    texts = [path.read_text() for path in (tmp_path / "report").rglob("*") if path.suffix in {".json", ".js"}]
    (data,) = [json.loads(text[text.index("{") : text.rindex("}") + 1]) for text in texts if '"labelled"' in text]
    assert (data["rate"], data["labelled"], data["frames"], data["stride"]) == ("3f", [0, 3, 6, 8, 9], 10, 3)
