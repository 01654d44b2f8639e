"""Films and contact sheets show what the labels say, and nothing else."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jobs import preview, report
from pipeline.errors import UsageError
from pipeline.masks import rle
from pipeline.video.content import open_labelled
from pipeline.views.preview import color_of, contact_sheet, load_videos, write_film
from pipeline.views.preview.draw import draw_frame
from tests.clips import HEIGHT, WIDTH
from tests.video.clips import Clip
from tests.views.conftest import BIG, HOSTILE
from tests.views.labelled import write_labels


def test_a_film_shows_every_frame_at_its_time_with_its_masks(labels, tmp_path):
    (labelled,) = load_videos(labels, ["calm"])
    with open_labelled(labelled.video) as reader:
        assert write_film(labelled, reader, tmp_path / "film.mp4") == 8
    with av.open(str(tmp_path / "film.mp4")) as film:
        stream = film.streams.video[0]
        frames = list(film.decode(stream))
        assert stream.codec_context.name == "h264"
    assert [round(frame.time, 2) for frame in frames] == [t / 10 for t in range(8)]
    shown = frames[5].to_ndarray(format="rgb24")
    assert shown.shape == (HEIGHT, WIDTH, 3)
    there, away = shown[20, 20].astype(int), shown[60, 5].astype(int)
    expected = 0.55 * np.array([230, 40, 40]) + 0.45 * np.array(color_of(1))
    assert np.abs(there - expected).max() < 40
    assert away.max() < 140
    assert not list(tmp_path.glob(".part-*"))


def test_a_contact_sheet_holds_prompted_frames(labels):
    (labelled,) = load_videos(labels, [HOSTILE])
    with open_labelled(labelled.video) as reader:
        sheet = contact_sheet(labelled, reader, tiles=6, columns=3)
    assert sheet.width == 3 * 320
    assert sheet.height > 2 * 200


def test_colours_are_stable_and_neighbours_differ():
    colors = [color_of(i) for i in range(12)]
    assert colors == [color_of(i) for i in range(12)]
    assert all(np.abs(np.subtract(a, b)).sum() > 90 for a, b in itertools.pairwise(colors))
    assert len(color_of(BIG)) == 3


def test_drawing_copies_the_frame_and_accepts_any_prompt():
    frame = np.zeros((40, 60, 3), np.uint8)
    prompts = [
        {
            "object_id": 1,
            "points": [{"x": -5, "y": 90, "label": 0}],
            "box": {"x_min": -9, "y_min": 5, "x_max": 99, "y_max": 7},
        },
        {"object_id": 2, "mask": {"size": [40, 60], "counts": rle.encode(np.eye(40, 60)[None] > 0)[0]}},
    ]
    assert draw_frame(frame, [], prompts, caption="hello").any()
    assert not frame.any()


def test_the_command_reports_videos_that_it_could_not_draw(output, tmp_path, capsys):
    assert preview.main([str(output), "--worst", "3", "--folder", str(tmp_path)]) == 3
    said = capsys.readouterr().out
    assert "'gone' cannot be drawn" in said
    pictures = sorted(tmp_path.iterdir())
    assert {path.suffix for path in pictures} == {".mp4", ".png"}
    assert len(pictures) == 4
    assert all(path.parent == tmp_path for path in pictures)
    with Image.open(next(path for path in pictures if path.suffix == ".png")) as picture:
        picture.verify()


@pytest.mark.parametrize(
    "options", [["--video", "calm", "--worst", "2"], ["--video", "nobody"], ["--where", "no such"]]
)
def test_wrong_use_is_told(output, tmp_path, options):
    assert preview.main([str(output), *options, "--folder", str(tmp_path)]) == 2


def test_without_a_choice_the_most_doubtful_videos_are_drawn(output, tmp_path, capsys):
    assert preview.main([str(output), "--only", "sheet", "--folder", str(tmp_path)]) == 3, "one source is gone"
    assert len(list(tmp_path.glob("*.png"))) == 2
    assert "'gone' cannot be drawn" in capsys.readouterr().out


def test_only_a_sheet_is_written_and_named(output, tmp_path, capsys):
    arguments = [str(output), "--video", "calm", "--only", "sheet", "--folder", str(tmp_path)]
    assert preview.main(arguments) == 0
    told = capsys.readouterr().out.splitlines()
    assert "".join(told[:-1]) == str(tmp_path / "calm.png")
    assert told[-1].startswith("next: python -m jobs.report ")
    assert [path.name for path in tmp_path.glob("calm*")] == ["calm.png"]


def test_a_video_without_labels_is_named(labels):
    with pytest.raises(UsageError, match="'nobody' has no published labels"):
        list(load_videos(labels, ["nobody"]))


@pytest.fixture(scope="module")
def odd_output(tmp_path_factory) -> Path:
    """Labels of videos that are hard to draw: eleven hours between two frames, one pixel high, one frame, too wide."""
    root = tmp_path_factory.mktemp("odd")
    gap = tuple(index + (400_000 if index >= 10 else 0) for index in range(20))
    made = [
        Clip(name="gap.ts", frames=20, pts=gap, time_base=Fraction(1, 10), gop=1, options={"bf": "0"}),
        Clip(name="flat.mov", codec="png", pix_fmt="rgb24", frames=3, size=(90, 1)),
        Clip(name="narrow.mov", codec="png", pix_fmt="rgb24", frames=3, size=(1, 90)),
        Clip(name="single.mp4", frames=1),
        Clip(name="wide.mov", codec="png", pix_fmt="rgb24", frames=2, size=(17_000, 2)),
        Clip(name="usual.mp4", frames=5),
    ]
    box = {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}
    rows = [
        {
            "video_id": clip.name,
            "video_uri": str(clip.write(root)),
            "prompts": [{"object_id": 1, "frame_index": 0, "box": box}],
        }
        for clip in made
    ]
    return write_labels(root, rows)


def test_an_undrawable_video_is_reported_and_the_others_are_drawn(odd_output, tmp_path, capsys):
    assert preview.main([str(odd_output), "--worst", "9", "--folder", str(tmp_path)]) == 3
    said = capsys.readouterr().out
    assert said.count("cannot be drawn") == 1
    assert "'wide.mov' cannot be drawn: wide.mov.mp4: " in said
    films = {path.stem: path for path in tmp_path.glob("*.mp4")}
    assert set(films) == {"gap.ts", "flat.mov", "narrow.mov", "single", "usual"}
    with av.open(str(films["gap.ts"])) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert len(times) == 20
    assert times[10] - times[9] == pytest.approx(10), "not eleven hours"
    assert not list(tmp_path.glob(".part-*"))


def test_a_report_copies_clips_of_any_times_and_sizes(odd_output, tmp_path):
    assert report.main([str(odd_output), "--folder", str(tmp_path), "--clips", "copy"]) == 0
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 6
    with av.open(str(tmp_path / "clips" / "1.mp4")) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert times[-1] == pytest.approx(40_001.9, abs=0.01), "the page finds frames by their times"


def test_a_video_of_another_size_than_labelled_is_named(odd_output, tmp_path, capsys):
    usual = odd_output.parent / "usual.mp4"
    whole = usual.read_bytes()
    try:
        Clip(name="usual.mp4", frames=5, size=(64, 48)).write(odd_output.parent)
        assert preview.main([str(odd_output), "--video", "usual.mp4", "--folder", str(tmp_path)]) == 3
    finally:
        usual.write_bytes(whole)
    assert "has frames of (48, 64), not (64, 96) as when it was labelled" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_named(odd_output, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    folder = str(tmp_path / "file" / "preview")
    assert preview.main([str(odd_output), "--video", "usual.mp4", "--folder", folder]) == 2
    assert "cannot be made" in capsys.readouterr().err
