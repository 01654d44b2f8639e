"""`python -m tests.benchmarks.decode [FRAMES [TITLE]]`: frames a second as RGB, beside plain PyAV and torchcodec.

All in one run. PyAV does not turn frames, as the 1440 x 1080 file wants it, so a second ratio has numpy turn them.
torchcodec is measured where it can be imported, or by another interpreter: TORCHCODEC_PYTHON=/path/of/its/python. TITLE
picks files by how their titles begin, as 720p.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np

from pipeline.video import keep_freed_memory, open_video

SHARED = Path(os.environ.get("SAM2_CORPUS_TEST_FILES", Path(__file__).parents[3] / "shared"))
ROUNDS = 3
MOST_FRAMES = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
ONLY = sys.argv[2] if len(sys.argv) > 2 else ""
FILES = {
    "540p h264": "videos/bedroom.mp4",
    "720p h264": "videos/juggle.mp4",
    "1440x1080 hevc": "hard/vfr_hevc_rot_two_video.mp4",
    "180p av1": "hard/long_21766_frames_av1.mp4",
}

TORCHCODEC = """
import sys, time
import torch
from torchcodec.decoders import VideoDecoder
torch.set_num_threads(1)
begun, count = time.perf_counter(), 0
for frame in VideoDecoder(sys.argv[1], dimension_order="NHWC", num_ffmpeg_threads=int(sys.argv[2])):
    count += 1
    if count == int(sys.argv[3]):
        break
print(count / (time.perf_counter() - begun))
"""


def plain(path: Path, *, threads: str | None = None, turned: bool = False) -> Iterator[object]:
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        if threads:
            stream.thread_type = threads
        for frame in container.decode(stream):
            rgb = frame.to_ndarray(format="rgb24")
            yield np.ascontiguousarray(np.rot90(rgb, frame.rotation // 90)) if turned and frame.rotation else rgb


def ours(path: Path) -> Iterator[object]:
    with open_video(path, name=path.name) as video:
        yield from video.forward()


def ours_backward(path: Path) -> Iterator[object]:
    with open_video(path, name=path.name) as video:
        count = min(MOST_FRAMES, video.info.container_frames or 1)
        yield from video.backward(count - 1)


def rate(frames: Iterator[object]) -> tuple[float, float]:
    """Frames a second, and frames a second of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for _ in islice(frames, MOST_FRAMES))
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def torchcodec(path: Path) -> float | None:
    python = os.environ.get("TORCHCODEC_PYTHON", sys.executable)
    run = subprocess.run(
        [python, "-c", TORCHCODEC, path, "1", str(MOST_FRAMES)], capture_output=True, text=True, check=False
    )
    return float(run.stdout) if run.returncode == 0 else None


def main() -> None:
    keep_freed_memory()  # as the workers do; it helps PyAV alike
    contenders: dict[str, Callable[[Path], Iterator[object]]] = {
        "PyAV": plain,
        "PyAV, turning": lambda path: plain(path, turned=True),
        "PyAV, AUTO threads": lambda path: plain(path, threads="AUTO"),
        "pipeline.video": ours,
        "and backward": ours_backward,
    }
    print(f"best of {ROUNDS} rounds, frames/s (in brackets: by processor time), {os.cpu_count()} cores")
    print(f"{'':16}" + "".join(f"{title:>22}" for title in (*contenders, "torchcodec", "ratio to PyAV", "... turning")))
    for title, name in FILES.items():
        if not title.startswith(ONLY):
            continue
        best = dict.fromkeys(contenders, (0.0, 0.0))
        other = 0.0
        for _ in range(ROUNDS):
            for contender, frames in contenders.items():
                best[contender] = max(best[contender], rate(frames(SHARED / name)))
            other = max(other, torchcodec(SHARED / name) or 0.0)
        cells = [f"{wall:.0f} ({cpu:.0f})" for wall, cpu in best.values()] + [f"{other:.0f}" if other else "absent"]
        for base in ("PyAV", "PyAV, turning"):
            wall, cpu = (best["pipeline.video"][kind] / best[base][kind] for kind in (0, 1))
            cells.append(f"{wall:.2f} ({cpu:.2f})")
        print(f"{title:16}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
