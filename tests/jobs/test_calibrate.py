"""jobs.calibrate on this machine, and the dry run that uses what it wrote."""

import json

import numpy as np
import pytest

from jobs import calibrate, label
from pipeline.runs.calibration import parse_calibration
from tests.clips import green, red, write_clip, write_manifest


def test_a_dry_run_predicts_by_what_calibrate_measured(tmp_path, capsys):
    uri = write_clip(tmp_path / "v.mp4", frames=50)
    rows = [{"video_id": "v", "video_uri": uri, "num_frames": 10**6, "prompts": [red(3), green(3), red(9)]}]
    manifest, path = write_manifest(tmp_path / "manifest.parquet", rows), tmp_path / "c.json"
    command = ["--model", "embedded", "--device", "cpu", "--manifest", manifest, "--output", str(path)]
    assert calibrate.main([*command, "--objects", "2", "1", "--lanes", "1", "--actors", "2", "--seconds", "3"]) == 0
    printed = capsys.readouterr().out
    measured = parse_calibration(path.read_bytes(), "c.json")
    assert (measured.model, measured.dtype, measured.actors) == ("embedded", "float32", 2)
    assert measured.clip == {"video_uri": uri, "height": 64, "width": 96}
    assert [(rate.objects, rate.lanes) for rate in measured.rates] == [(1, 1), (2, 1)]
    for rate in measured.rates:
        assert rate.frames >= 2 * 2
        assert rate.frames_per_s > 0
        assert rate.memory_bytes > 1e8
        assert rate.gpu_memory_bytes == 0
    assert measured.machine["cores"] > 0
    assert measured.machine["torch_version"]
    assert f"written to {path}" in printed
    assert "one core decodes and resizes" in printed

    run = ["--model", "embedded", "--manifest", manifest, "--output", str(tmp_path / "out"), "--calibration", str(path)]
    assert label.main([*run, "--dry-run", "--actors", "1", "--price-per-hour", "3"]) == 0
    (seconds,) = measured.seconds(np.array([1e6]), np.array([2]))
    printed = capsys.readouterr().out
    assert f", {3 * seconds / 3600:,.2f} at 3 an hour; measured on {measured.device} with 1 lane;" in printed
    assert "with 1 actor, " in printed
    assert not (tmp_path / "out").exists()

    path.write_text(json.dumps(json.loads(path.read_text()) | {"weights_digest": "00"}))
    assert label.main([*run, "--dry-run"]) == 2
    assert "was measured with the model embedded (weights 00), and this run uses embedded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objects", "0"], "--objects is 0; allowed are 1 to 256"),
        (["--lanes", "1", "300"], "--lanes is 1 300; allowed are 1 to 256"),
        (["--seconds", "nan"], "--seconds is nan; allowed is a number above 0"),
        (["--output", "no-folder/c.json"], "--output is no-folder/c.json, and its folder does not exist"),
        (["--manifest", "missing.parquet"], "missing.parquet"),
        (["--model", "no/such/model"], "No model folder at no/such/model"),
        (["--device", "cuda"], "--device is cuda, and PyTorch sees no CUDA device; use cpu or auto"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_begins(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    assert calibrate.main(["--model", "embedded", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_video_that_cannot_be_labelled_is_named(tmp_path, capsys):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    rows = [{"video_id": "v", "video_uri": str(tmp_path / "v.mp4"), "prompts": [red()]}]
    manifest = write_manifest(tmp_path / "manifest.parquet", rows)
    command = ["--model", "embedded", "--device", "cpu", "--manifest", manifest, "--actors", "1", "--seconds", "1"]
    assert calibrate.main([*command, "--output", str(tmp_path / "c.json")]) == 1
    assert f"error: the calibration failed: {tmp_path}/v.mp4" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()
