"""make gpu-check where there is no GPU: it says so, and its parts run on the CPU."""

import dataclasses
import re
import sys
import time

import pytest
import torch

from tests.calibrations import calibration, rate
from tests.gpu import check

TESTED_BACKENDS = "MATH|FLASH_ATTENTION|EFFICIENT_ATTENTION|CUDNN_ATTENTION|OVERRIDEABLE"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "make gpu-check needs a GPU, and PyTorch sees no CUDA device\n"


def test_kernels_are_timed_and_the_chosen_one_is_named() -> None:
    rows = check.kernels("cpu", tokens=64, memories=3)
    assert [what for what, _ in rows] == [f"attention (256, 256, 64), {dtype}" for dtype in ("float32", "bfloat16")]
    times = r"plain \d+\.\d\d ms, padded \d+\.\d\d ms, split \d+\.\d\d ms"
    for _, result in rows:
        assert re.fullmatch(rf"SDPA uses ({TESTED_BACKENDS}); {times}; used: (plain|padded|split)", result), result


def test_the_cost_of_a_new_video_is_told_apart_from_its_frames() -> None:
    ((what, result),) = check.new_videos("embedded", "cpu", frames=4)
    assert what == "plans of a new video, beyond its frames"
    assert re.fullmatch(r"first of a process -?\d+\.\d\d s, second -?\d+\.\d\d s \(a video: \d+\.\d\d s\)", result)


def test_utilisation_is_sampled_while_a_part_runs() -> None:
    busy = [sys.executable, "-uc", "import time\nwhile True: print(0); print('[N/A]'); print(80); time.sleep(0.1)"]
    with check.sampled(busy) as samples:
        deadline = time.monotonic() + 60
        while len(samples) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert samples[:4] == [0, 80, 0, 80]
    with check.sampled(["no-such-command"]) as samples:
        assert samples == []


def test_a_calibration_becomes_rows_with_rates_and_utilisation() -> None:
    measured = calibration(rate(1, 8, 100.0), dataclasses.replace(rate(5, 8, 30.0), starved=0.25, full_memory=False))
    assert check.calibration_rows(measured, [0, 80, 90, 70]) == [
        ("8 lanes, 1 objects", "100.0 frames/s, lanes wait 0% for frames, memory 1.0 GB, GPU 0.0 GB"),
        (
            "8 lanes, 5 objects",
            "30.0 frames/s, lanes wait 25% for frames, memory 1.0 GB, GPU 0.0 GB (memories not full)",
        ),
        ("8 lanes, GPU utilisation", "median 80 % while it works"),
        ("8 lanes, one core", "decodes 100 frames/s, encodes 500 masks/s at 640 x 360"),
    ]


@pytest.mark.slow
def test_a_calibration_runs_where_there_is_no_gpu() -> None:
    busy = [sys.executable, "-uc", "print(80)"]
    rows = dict(check.calibration("embedded", "cpu", lanes=1, objects=[1], seconds=1, sampler=busy))
    assert re.match(
        r"\d+\.\d frames/s, lanes wait \d+% for frames, memory \d\.\d GB, GPU 0.0 GB", rows["1 lanes, 1 objects"]
    )
    assert rows["1 lanes, GPU utilisation"] == "median 80 % while it works"
    assert re.fullmatch(r"decodes \d+ frames/s, encodes \d+ masks/s at 1280 x 720", rows["1 lanes, one core"])


def test_parts_have_their_own_process_and_failures_are_rows() -> None:
    table = check.Table(rows=[("device", "x")])
    table.run("kernels", "embedded", "cpu", "64", "3", limit_s=300)
    assert not table.failed
    table.run("new-videos", "no/such/model", "cpu", limit_s=300)
    table.run("kernels", "embedded", "cpu", limit_s=0.01)
    assert table.failed
    device, float32, bfloat16, failed, late = table.markdown().splitlines()[2:]
    assert device == "| device | x |"
    assert float32.startswith("| attention (256, 256, 64), float32 | SDPA uses ")
    assert bfloat16.startswith("| attention (256, 256, 64), bfloat16 | SDPA uses ")
    assert re.match(r"\| new-videos \| \*\*failed\*\*: .*No model folder at no/such/model", failed)
    assert late == "| kernels | **failed**: not done after 0 s |"
