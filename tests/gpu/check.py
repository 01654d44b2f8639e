"""Checks a machine with a GPU in at most eight minutes, and prints one Markdown table to paste into an issue.

    python -m tests.gpu.check

Runs the tests marked gpu; jobs.calibrate with one and with eight lanes, while nvidia-smi tells how busy the GPU is;
the attention kernels at hiera-tiny's sizes; and three videos after each other, to see what a new video costs. The model
has hiera-tiny's architecture at 1024 px and random weights, so that nothing is downloaded.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.attention import SDPBackend

from pipeline.runs.calibration import Calibration, parse_calibration
from pipeline.tracking import Engine
from pipeline.tracking.clocks import HostClock
from pipeline.tracking.environment import environment
from pipeline.tracking.model import load
from pipeline.tracking.sam2.kernels import KERNELS, KernelChoice, device_seconds
from tests.tracking import models, videos

Row = tuple[str, str]

NVIDIA_SMI = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200")
TESTS_S, CALIBRATION_S, PART_S = 100, 130, 60
"""Time limits of the tests, of each calibration, and of each other part: 480 s together."""


def kernels(device: str, *, tokens: int = 64 * 64, memories: int = 7) -> list[Row]:
    """The backend that PyTorch chooses for keys of 256 and values of 64 channels, and the time of each kernel.

    Args:
        device: where the kernels run.
        tokens: of a frame; queries have as many.
        memories: number of frames attended, with 16 pointers of 4 tokens.
    """
    rows, keys = [], tokens * memories + 64
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (torch.randn(1, 1, n, width, device=device, dtype=dtype) for n, width in
                   ((tokens, 256), (keys, 256), (keys, 64)))  # fmt: skip
        backend = SDPBackend(torch._fused_sdp_choice(q, k, v, scale=1.0)).name
        times: dict[str, float] = {}

        def measure(call: Any) -> float:
            took = device_seconds(call) if device == "cuda" else _host_seconds(call)
            times[call.func.__name__] = min(took, times.get(call.func.__name__, took))  # noqa: B023
            return took

        choice = KernelChoice(measure, measured_from=0)
        choice(q, k, v)
        told = [f"{name} {1000 * times[name]:.2f} ms" if name in times else f"{name} fails" for name in KERNELS]
        (chosen,) = choice.chosen.values()
        precision = str(dtype).removeprefix("torch.")
        rows.append(
            (f"attention (256, 256, 64), {precision}", f"SDPA uses {backend}; {', '.join(told)}; used: {chosen}")
        )
    return rows


def _host_seconds(call: Callable[[], Any]) -> float:
    clock = HostClock()
    with clock.measure():
        call()
    return clock.batch_s


def new_videos(model: str, device: str, *, frames: int = 24) -> list[Row]:
    """Seconds of three equal videos after each other in one process; the first one also builds plans."""
    on_device = load(model, device=device)
    engine = Engine(on_device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    source, seconds = videos.MemorySource(on_device, videos.video(frames)), []
    objects = [videos.tracked(n, f0=videos.prompt("click")) for n in range(2)]
    for _ in range(3):
        started = time.perf_counter()
        for frame in engine.propagate(source, objects):
            frame.logits.cpu()
        seconds.append(time.perf_counter() - started)
    first, second, third = seconds
    row = f"first of a process {first - third:.2f} s, second {second - third:.2f} s (a video: {third:.2f} s)"
    return [("plans of a new video, beyond its frames", row)]


def calibration(
    model: str, device: str, *, lanes: int, objects: Sequence[int], seconds: float, sampler: Sequence[str] = NVIDIA_SMI
) -> list[Row]:
    """Rates of jobs.calibrate, and how busy the GPU was meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "calibration.json"
        dtype = "bfloat16" if device == "cuda" else "float32"
        command = f"-m jobs.calibrate --model {model} --device {device} --dtype {dtype} --lanes {lanes} --actors 1 "
        command += f"--objects {' '.join(map(str, objects))} --seconds {seconds} --output {output}"
        with sampled(sampler) as samples:
            done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(_last_line(done.stderr))
        return calibration_rows(parse_calibration(output.read_bytes(), str(output)), samples)


def calibration_rows(found: Calibration, samples: Sequence[float]) -> list[Row]:
    """Rows of a calibration with one number of lanes.

    Args:
        found: the calibration.
        samples: utilisation of the GPU in percent while it was measured; empty if unknown.
    """
    lanes = found.rates[0].lanes
    rows = [
        (
            f"{rate.lanes} lanes, {rate.objects} objects",
            f"{rate.frames_per_s:.1f} frames/s, lanes wait {rate.starved:.0%} for frames, "
            f"memory {rate.memory_bytes / 1e9:.1f} GB, GPU {rate.gpu_memory_bytes / 1e9:.1f} GB"
            + ("" if rate.full_memory else " (memories not full)"),
        )
        for rate in found.rates
    ]
    working = [sample for sample in samples if sample > 0]
    if working:
        rows.append((f"{lanes} lanes, GPU utilisation", f"median {median(working):.0f} % while it works"))
    each = f"decodes {found.decode_frames_per_core_s:.0f} frames/s, encodes {found.encode_masks_per_core_s:.0f} masks/s"
    rows.append((f"{lanes} lanes, one core", f"{each} at {found.clip['width']} x {found.clip['height']}"))
    return rows


@contextlib.contextmanager
def sampled(command: Sequence[str]) -> Iterator[list[float]]:
    """Numbers that a command prints line by line while the block runs; none if there is no such command."""
    samples: list[float] = []
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        yield samples
        return

    def read() -> None:
        for line in process.stdout or ():
            with contextlib.suppress(ValueError):
                samples.append(float(line))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield samples
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout:
            process.stdout.close()


def gpu_tests() -> list[Row]:
    """The outcome of the tests marked gpu."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/tracking"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(_last_line(done.stdout))
    return [("tests marked gpu", _last_line(done.stdout))]


@dataclass
class Table:
    """Rows of the parts so far. A part that fails is a row, too, and the others go on."""

    rows: list[Row] = field(default_factory=list)
    failed: bool = False

    def run(self, part: str, *arguments: str, limit_s: float) -> None:
        """Run a part in a process of its own: `python -m tests.gpu.check PART ARGUMENTS` prints its rows."""
        command = [sys.executable, "-m", "tests.gpu.check", part, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
            why = _last_line(done.stderr)
        except subprocess.TimeoutExpired:
            done, why = None, f"not done after {limit_s:.0f} s"
        if done is None or done.returncode:
            self.failed = True
            self.rows.append((" ".join((part, *arguments[2:])), f"**failed**: {why}"))
        else:
            self.rows += [tuple(line.split("\t")) for line in done.stdout.splitlines() if "\t" in line]  # type: ignore[misc]

    def markdown(self) -> str:
        lines = ["| what | result |", "|---|---|", *(f"| {what} | {result} |" for what, result in self.rows)]
        return "\n".join(lines)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def run_part(part: str, arguments: Sequence[str]) -> list[Row]:
    """The rows of one part."""
    if part == "tests":
        return gpu_tests()
    model, device, *more = arguments
    if part == "kernels":
        return kernels(device, **{name: int(value) for name, value in zip(("tokens", "memories"), more, strict=False)})
    if part == "new-videos":
        return new_videos(model, device)
    lanes, seconds, *objects = more
    return calibration(model, device, lanes=int(lanes), seconds=float(seconds), objects=[int(n) for n in objects])


def main(arguments: Sequence[str]) -> int:
    """Check the GPU of this machine, or run one part; returns the exit code."""
    if arguments:
        print("\n".join("\t".join(row) for row in run_part(arguments[0], arguments[1:])))
        return 0
    if not torch.cuda.is_available():
        print("make gpu-check needs a GPU, and PyTorch sees no CUDA device", file=sys.stderr)
        return 2
    started, table = time.monotonic(), Table()
    for name, value in environment(torch.device("cuda")).items():
        table.rows.append((name, str(value)))
    with tempfile.TemporaryDirectory() as folder:
        model = models.random_model_folder(Path(folder), models.random_sam2(models.tiny_config(1024)))
        table.run("tests", limit_s=TESTS_S)
        table.run("kernels", model, "cuda", limit_s=PART_S)
        table.run("new-videos", model, "cuda", limit_s=PART_S)
        for lanes in ("1", "8"):
            table.run("calibration", model, "cuda", lanes, "45", "1", "5", "20", limit_s=CALIBRATION_S)
    table.rows.append(("time of this check", f"{time.monotonic() - started:.0f} s"))
    print(table.markdown())
    return int(table.failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
