"""Memory stays within the stated budget, whatever the length of a video, of its groups of pictures, or its frames."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.video.clips import Clip

MIB = 1 << 20

MEASURE = """
import json, sys, threading, time
from pathlib import Path
from pipeline.video import VideoLimits, open_video
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
path, budget, directions = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
peaks, peak, stop = {"start": rss()}, 0, threading.Event()
def watch():
    global peak
    while not stop.wait(0.01):
        peak = max(peak, rss())
threading.Thread(target=watch, daemon=True).start()
with open_video(path, name=path.name, limits=VideoLimits(backward_bytes=budget)) as video:
    count = 0
    for direction in directions:
        peak = rss()
        begun = time.monotonic()
        frames = video.forward() if direction == "forward" else video.backward(count - 1)
        count = sum(1 for _ in frames)
        peaks[direction], peaks[direction + "_s"] = peak, round(time.monotonic() - begun, 1)
print(json.dumps({**peaks, "frames": count}))
"""


def measure(path: Path, *, budget: int, directions: str = "forward,backward") -> dict[str, float]:
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, path, str(budget), directions],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    print({key: round(value / MIB) if value > 1e6 else value for key, value in report.items()})
    return report


def test_a_long_group_of_pictures_backward_within_its_budget(clip: Callable[[Clip], Path]):
    """400 frames of 640 x 480 in one group are 176 MiB decoded; the budget is 40."""
    path = clip(Clip(name="one-group.mp4", frames=400, gop=400, size=(640, 480), options={"preset": "ultrafast"}))
    got = measure(path, budget=40 * MIB)
    assert got["frames"] == 400
    assert got["backward"] - got["forward"] < 40 * MIB * 1.25 + 10 * MIB


@pytest.mark.slow
def test_the_long_file(shared: Path):
    path = shared / "hard" / "long_21766_frames_av1.mp4"
    got = measure(path, budget=64 * MIB)
    assert got["frames"] == 21766
    assert got["forward"] - got["start"] < 40 * MIB, "a few frames, and 16 bytes for each of 21766"
    assert got["backward"] - got["forward"] < 64 * MIB * 1.25 + 10 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_8k(clip: Callable[[Clip], Path], codec: str):
    """A frame is 50 MB as decoded and 100 MB as RGB; decoders keep up to 16 references."""
    quiet = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
    made = Clip(
        name=f"8k-{codec}.mp4",
        codec=codec,
        frames=16,
        gop=16,
        size=(7680, 4320),
        options={"preset": "ultrafast"} | quiet,
    )
    frame = 7680 * 4320 * 3
    got = measure(clip(made), budget=256 * MIB)
    assert got["frames"] == 16
    assert got["forward"] - got["start"] < 8 * frame
    assert got["backward"] - got["start"] < 8 * frame + 256 * MIB * 1.25
