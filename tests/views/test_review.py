"""A review names the doubtful videos, worst first, with prompts that jobs.label takes back."""

import json

from jobs import review
from pipeline.manifest import read_manifest
from pipeline.views.review import write_review
from tests.views.conftest import HOSTILE, PROMPT


def test_the_worst_videos_come_first_with_prompts_that_can_be_read_back(labels, tmp_path):
    done = write_review(labels, tmp_path, worst=3)
    assert done.video_ids[0] == HOSTILE
    assert set(done.video_ids) == {HOSTILE, "calm"}
    assert [line.startswith("'gone'") for line in done.left_out] == [True]
    manifest = read_manifest(str(tmp_path / "manifest.parquet"))
    assert not manifest.bad_rows
    video = manifest.video(0)
    assert (video.video_id, video.prompts[0].points, video.prompts[0].category) == (HOSTILE, ((17, 19, 1),), HOSTILE)
    lines = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert lines[0]["prompts"] == [PROMPT]
    sheets = sorted(path.name for path in (tmp_path / "sheets").iterdir())
    assert len(sheets) == 2
    assert sheets[0].startswith("0001-")


def test_the_command(output, tmp_path, capsys):
    assert review.main([str(output), "--worst", "1", "--folder", str(tmp_path / "r")]) == 0
    assert "jobs.label --manifest" in capsys.readouterr().out
    assert review.main([str(output), "--worst", "0", "--folder", str(tmp_path / "r")]) == 2
