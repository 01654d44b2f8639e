"""Wrong input at the command line: a message that says what, where and what is allowed; exit code 2; no traceback."""

import os
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import label
from tests.clips import green, point, red, write_clip, write_manifest
from tests.s3 import READER_KEY, READER_SECRET, WRITER_KEY, WRITER_SECRET


def run(capsys, tmp_path, **options):
    """Run jobs.label, nothing of which may start; gives its exit code and what it said."""
    given = {"manifest": tmp_path / "m.parquet", "output": tmp_path / "out", "model": "embedded", **options}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    code = label.main(arguments)
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return code, said.err


@pytest.fixture
def video(tmp_path):
    return {"video_id": "v", "video_uri": write_clip(tmp_path / "v.mp4", frames=2), "prompts": [red()]}


def prompt(**fields):
    return {"object_id": 1, "frame_index": 0, **fields}


BOX = {"x_min": 1, "y_min": 1, "x_max": 9, "y_max": 9}
MASK = {"size": [4, 4], "counts": "0`0"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": [prompt(points=[point(1, 1)], time_s=0.0)]}, ["row 0", "'v'", "time_s", "frame_index"]),
        ({"prompts": [{"object_id": 1, "points": [point(1, 1)]}]}, ["row 0", "time_s", "frame_index"]),
        ({"prompts": [prompt(mask=MASK, points=[point(1, 1)])]}, ["row 0", "mask", "points"]),
        ({"prompts": [prompt()]}, ["row 0", "prompts[0]"]),
        ({"prompts": []}, ["row 0", "prompts"]),
        ({"prompts": [prompt(points=[point(1, 1, 2)])]}, ["label", "2", "0"]),
        ({"prompts": [prompt(points=[point(float("nan"), 1)])]}, ["points[0].x", "nan"]),
        ({"prompts": [prompt(box=BOX | {"x_min": 20})]}, ["box", "x_min"]),
        ({"prompts": [prompt(frame_index=-1, points=[point(1, 1)])]}, ["frame_index", "-1"]),
        ({"start_s": 5.0, "end_s": 2.0}, ["end_s", "start_s"]),
        ({"prompts": [red(), red()]}, ["object", "frame"]),
        ({"prompts": [prompt(points=[point(1, 1, 0)])]}, ["points", "label 1", "box"]),
    ],
)
def test_a_bad_row_is_named_with_its_rule(capsys, tmp_path, video, change, words):
    write_manifest(tmp_path / "m.parquet", [video | change])
    code, said = run(capsys, tmp_path)
    assert code == 2
    assert said.startswith("error: ")
    for word in words:
        assert word in said
    assert not (tmp_path / "out").exists()


def test_more_than_one_gpu_per_actor_is_refused(capsys, tmp_path, video):
    write_manifest(tmp_path / "m.parquet", [video])
    code, said = run(capsys, tmp_path, gpus_per_actor=2)
    assert code == 2
    assert "--gpus-per-actor is 2.0; allowed: 0 to 1" in said


def test_a_missing_column_and_a_wrong_type_are_named(capsys, tmp_path):
    pq.write_table(pa.table({"video_id": ["v"], "prompts": [[]]}), tmp_path / "m.parquet")
    assert "video_uri" in run(capsys, tmp_path)[1]
    pq.write_table(pa.table({"video_id": ["v"], "video_uri": ["u"], "prompts": [7]}), tmp_path / "m.parquet")
    code, said = run(capsys, tmp_path)
    assert code == 2
    assert "prompts" in said
    assert "list" in said


def test_a_duplicate_id_is_named_with_both_rows(capsys, tmp_path, video):
    write_manifest(tmp_path / "m.parquet", [video, video | {"video_id": "w"}, video])
    code, said = run(capsys, tmp_path)
    assert code == 2
    assert "row 2" in said
    assert "0" in said


def test_a_manifest_that_is_none_is_named(capsys, tmp_path):
    assert str(tmp_path / "m.parquet") in run(capsys, tmp_path)[1]
    (tmp_path / "m.parquet").write_text("a,b,c")
    code, said = run(capsys, tmp_path)
    assert code == 2
    assert "Parquet" in said


def test_bad_rows_can_be_left_out(capsys, tmp_path, video):
    write_manifest(tmp_path / "m.parquet", [video | {"prompts": [green(-3)]}])
    arguments = ["--manifest", str(tmp_path / "m.parquet"), "--output", str(tmp_path / "out"), "--model", "embedded"]
    assert label.main([*arguments, "--on-bad-row", "skip"]) == 3
    assert "row 0" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["no/such-model-anywhere", "nonsense!", "."])
def test_an_unknown_model_is_named_before_anything_starts(capsys, tmp_path, video, model, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    write_manifest(tmp_path / "m.parquet", [video])
    code, said = run(capsys, tmp_path, model=model)
    assert code == 2
    assert model in said
    assert "embedded" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder that even this user cannot write")
def test_an_output_that_cannot_be_written_is_named(capsys, tmp_path, video):
    write_manifest(tmp_path / "m.parquet", [video])
    code, said = run(capsys, tmp_path, output="/proc/labels")
    assert code == 1
    assert "/proc/labels" in said


def test_an_output_that_is_a_file_is_named(capsys, tmp_path, video):
    write_manifest(tmp_path / "m.parquet", [video])
    (tmp_path / "taken").write_text("")
    code, said = run(capsys, tmp_path, output=tmp_path / "taken")
    assert code == 1
    assert "taken" in said


WRITER = {"AWS_ACCESS_KEY_ID": WRITER_KEY, "AWS_SECRET_ACCESS_KEY": WRITER_SECRET}
READER = {"AWS_ACCESS_KEY_ID": READER_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET}


@pytest.mark.parametrize(
    ("environment", "output", "words"),
    [
        (WRITER, "s3://nowhere-9/out", ["bucket", "nowhere-9"]),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, None, ["AWS_SECRET_ACCESS_KEY"]),
        (READER, None, ["denied"]),
    ],
    ids=["missing bucket", "wrong key", "not allowed to write"],
)  # fmt: skip
def test_storage_that_refuses_is_named(capsys, tmp_path, video, s3, monkeypatch, environment, output, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_manifest(tmp_path / "m.parquet", [video])
    code, said = run(capsys, tmp_path, output=output or f"{s3.uri}/out")
    assert code == 1
    for word in words:
        assert word in said
    for secret in environment.values():
        assert secret not in said


def test_a_manifest_may_be_kept_to_some_prefixes(capsys, tmp_path, video):
    inside = tmp_path / "allowed"
    inside.mkdir()
    secret = inside / "link.mp4"
    secret.symlink_to(video["video_uri"])
    outside = (
        f"{inside}/../v.mp4",
        f"file://{inside}/../v.mp4",
        f"file://{inside}/%2e%2e/v.mp4",
        "s3://else/where.mp4",
    )
    for uri in (video["video_uri"], str(secret), *outside):
        write_manifest(tmp_path / "m.parquet", [video | {"video_uri": uri}])
        code, said = run(capsys, tmp_path, allow_uri=inside)
        assert code == 2
        assert "--allow-uri" in said
    assert Path(inside).is_dir()
