"""Labelling from Python, on a Ray that already runs, and of a single clip from the command line."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from pipeline import label, open_labels, plan, read_manifest
from pipeline.api.clip import Clip
from pipeline.errors import UsageError
from pipeline.manifest.kinds import to_record
from tests.clips import green, red, write_clip

pytestmark = pytest.mark.usefixtures("local_ray")


def frame_of(folder) -> pd.DataFrame:
    uris = [write_clip(folder / f"{name}.mp4", frames=5, seed=seed) for seed, name in enumerate(("a", "b"))]
    return pd.DataFrame({"video_id": ["a", "b"], "video_uri": uris, "prompts": [[red()], [red(), green(1)]]})


def test_a_data_frame_is_planned_labelled_and_opened(tmp_path):
    table, output, phases = frame_of(tmp_path), tmp_path / "labels", {}
    before = plan(table, output, model="embedded")
    assert "2 videos pending" in before._repr_html_()
    report = label(
        table,
        output,
        model="embedded",
        progress=lambda seen: phases.setdefault(seen.phase),
        actors=1,
        mask_threshold=0.5,
    )
    assert (report.labelled, report.exit_code) == (2, 0)
    assert "labelled 2 of 2 pending videos" in report._repr_html_()
    assert list(phases) == ["starting Ray", "loading the model", "labelling", "publishing the labels"]
    with open_labels(output) as labels:
        assert labels.sql("SELECT count(*) FROM masks").fetchall() == [(5 + 5 + 4,)]
        assert labels.sql("SELECT DISTINCT parameters LIKE '%\"mask_threshold\":0.5%' FROM videos").fetchall() == [
            (True,)
        ]
        assert labels.mask("b", 1, 2).any()
    again = plan(read_manifest(table), output, model="embedded", mask_threshold=0.5)
    assert "nothing pending: 2 videos labelled before" in again._repr_html_()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"actor": 2}, "label has no option 'actor'; did you mean actors?"),
        ({"actors": 0}, "--actors is 0; allowed: 1 or more"),
        ({"direction": "up"}, "direction is 'up'; allowed are forward, backward, both"),
    ],
)
def test_wrong_options_are_named(tmp_path, given, said):
    with pytest.raises(UsageError) as caught:
        label(frame_of(tmp_path), tmp_path / "labels", model="embedded", **given)
    assert str(caught.value).startswith(said)


def test_something_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match="manifest has the type list; allowed are a path, a URI, and a table"):
        label([1], tmp_path / "labels", model="embedded")


def test_prompts_of_a_clip_are_read_from_texts(tmp_path):
    uri = write_clip(tmp_path / "clip.mp4", frames=5)
    clip = Clip(uri=uri, points=[["17,19", "60,50,0"]], boxes=["68,34,90,56"], at="0.2s")
    video = clip.manifest().video(0)
    assert (video.video_id, video.num_frames) == ("clip", 5)
    assert [to_record(prompt) for prompt in video.prompts] == [
        {"object_id": 1, "time_s": 0.2, "points": [point(17, 19, 1), point(60, 50, 0)]},
        {"object_id": 2, "time_s": 0.2, "box": {"x_min": 68, "y_min": 34, "x_max": 90, "y_max": 56}},
    ]


def point(x, y, label):
    return {"x": x, "y": y, "label": label}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no object to track in"),
        ({"points": [["1;2"]]}, "--point is '1;2'; allowed: X,Y, or X,Y,LABEL"),
        ({"points": [["1,2,5"]]}, "--point is '1,2,5'; its label is 1 (on the object) or 0 (off it)"),
        ({"boxes": ["1,2,3"]}, "--box is '1,2,3'; allowed: X_MIN,Y_MIN,X_MAX,Y_MAX, in pixels"),
        ({"boxes": ["1,2,3,4"], "at": "soon"}, "--at is 'soon'; allowed: the index of a frame"),
        ({"points": [["500,2"]]}, "point (500, 2) lies outside the frame; the frame is 96 x 64 pixels"),
        ({"points": [["5,2"]], "at": "7"}, "frame 7 is beyond the end"),
    ],
)
def test_wrong_prompts_of_a_clip_are_refused_before_anything_starts(tmp_path, given, said):
    clip = Clip(uri=write_clip(tmp_path / "clip.mp4", frames=5), **given)
    with pytest.raises(UsageError) as caught:
        clip.manifest()
    assert said in str(caught.value)


def test_one_command_labels_a_clip_and_draws_its_film(tmp_path):
    write_clip(tmp_path / "clip.mp4", frames=5)
    command = [sys.executable, "-m", "jobs.label", "clip.mp4", "--point", "17,19", "--model", "embedded"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "film: clip-labels.mp4"
    assert (tmp_path / "clip-labels.mp4").stat().st_size > 0
    with open_labels(tmp_path / "clip-labels") as labels:
        assert labels.mask("clip", 1, 4).any()
