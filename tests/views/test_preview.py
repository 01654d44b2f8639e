"""Films and contact sheets show what the labels say, and nothing else."""

import itertools

import av
import numpy as np
import pytest
from PIL import Image

from jobs import preview
from pipeline.errors import UsageError
from pipeline.masks import rle
from pipeline.video.content import open_labelled
from pipeline.views.preview import color_of, contact_sheet, load_videos, write_film
from pipeline.views.preview.draw import draw_frame
from tests.clips import HEIGHT, WIDTH
from tests.views.conftest import BIG, HOSTILE


def test_a_film_has_every_frame_at_its_time_with_its_masks_in_it(labels, tmp_path):
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
    assert not list(tmp_path.glob("*.part"))


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


def test_drawing_leaves_the_frame_alone_and_survives_any_prompt():
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


def test_the_command_names_what_it_could_not_draw(output, tmp_path, capsys):
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
    "options", [[], ["--video", "calm", "--worst", "2"], ["--video", "nobody"], ["--where", "no such"]]
)
def test_wrong_use_is_told(output, tmp_path, options):
    assert preview.main([str(output), *options, "--folder", str(tmp_path)]) == 2


def test_only_a_sheet_is_written_and_named(output, tmp_path, capsys):
    arguments = [str(output), "--video", "calm", "--only", "sheet", "--folder", str(tmp_path)]
    assert preview.main(arguments) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "calm.png")]
    assert [path.name for path in tmp_path.glob("calm*")] == ["calm.png"]


def test_a_video_without_labels_is_named(labels):
    with pytest.raises(UsageError, match="'nobody' has no published labels"):
        list(load_videos(labels, ["nobody"]))
