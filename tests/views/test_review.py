"""A review names the doubtful videos, worst first, with prompts that jobs.label takes back."""

import json
import shutil

from jobs import evaluate, review
from pipeline.manifest import read_manifest
from pipeline.views.review import write_review
from tests.clips import red
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


def test_two_outputs_are_compared_and_their_disagreements_reviewed(output, tmp_path, capsys):
    given = [str(output), "--against", str(output), "--worst", "2", "--review", str(tmp_path / "r")]
    assert evaluate.main(given) == 0
    shown = capsys.readouterr().out
    assert "agreement in J&F 1.0000 (95 % interval 1.0000 to 1.0000) over 3 videos; protocol all" in shown
    new, old = ({path.name for path in (tmp_path / at / "sheets").iterdir()} for at in ("r", "r/against"))
    assert new == old
    assert len(new) == 2
    assert evaluate.main([str(output), "--truth", str(output), "--review", str(tmp_path / "x")]) == 2
    assert "--review needs --against" in capsys.readouterr().err


def test_given_videos_are_reviewed_in_their_order(labels, tmp_path):
    assert write_review(labels, tmp_path, worst=2, videos=["calm", HOSTILE, "gone"]).video_ids == ("calm", HOSTILE)


def test_the_command(output, tmp_path, capsys):
    assert review.main([str(output), "--worst", "1", "--folder", str(tmp_path / "r")]) == 0
    assert "jobs.label --manifest" in capsys.readouterr().out
    assert review.main([str(output), "--worst", "0", "--folder", str(tmp_path / "r")]) == 2


def test_a_review_written_before_another_correction_does_not_undo_it(output, tmp_path, capsys):
    shutil.copytree(output, tmp_path / "out")

    def review_calm(folder: str) -> dict:
        assert review.main([str(tmp_path / "out"), "--worst", "3", "--folder", str(tmp_path / folder)]) == 3
        lines = map(json.loads, (tmp_path / folder / "prompts.jsonl").read_text().splitlines())
        return next(line for line in lines if line["video_id"] == "calm")

    def apply(line: dict, prompt: dict) -> tuple[int, str]:
        line["prompts"].append(prompt)
        (tmp_path / "fixes.jsonl").write_text(json.dumps(line))
        capsys.readouterr()
        code = review.main(["apply", str(tmp_path / "out"), str(tmp_path / "fixes.jsonl")])
        return code, capsys.readouterr().out

    early, first = review_calm("early"), review_calm("early")
    assert apply(first, red(1, 7))[0] == 0
    code, said = apply(early, red(3, 8))
    assert (code, "its prompts have changed since this review was written" in said) == (3, True)
    late = review_calm("late")
    assert [prompt["object_id"] for prompt in late["prompts"]] == [1, 7]
    assert apply(late, red(3, 8))[0] == 0
    assert [prompt["object_id"] for prompt in review_calm("last")["prompts"]] == [1, 7, 8]
