"""Labelers that make no labels and do not import torch: one fails as its task says, one sleeps."""

import ctypes
import os
import signal
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import VideoError
from pipeline.workers.task import LabelerSettings, Outcome


@dataclass(frozen=True)
class SimulatedTask:
    """A video that takes `seconds`; its n-th attempt fails by `faults[n - 1]`, and later ones succeed."""

    index: int
    seconds: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass
class SimulatedLabeler:
    """Counts attempts as files in `folder`, so that counts survive the death of the process."""

    warnings = ()
    folder: Path
    broken: str = ""
    """Fail to start with this message."""
    _stopped: list[bool] = field(default_factory=list)

    def __post_init__(self):
        if self.broken:
            raise ValueError(self.broken)

    def label(self, task):
        tries = len(list(self.folder.glob(f"{task.index}-*"))) + 1
        (self.folder / f"{task.index}-{tries}-{os.getpid()}").touch()
        fault = task.faults[tries - 1] if tries <= len(task.faults) else "ok"
        match fault:
            case "ok":
                time.sleep(task.seconds)
                return task.index
            case "exception":
                raise RuntimeError(f"video {task.index} cannot be labelled")
            case "decode":
                raise VideoError("not a video")
            case "memory":
                raise MemoryError
            case "allocation":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            case "cuda":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "cudnn":
                raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
            case "disk":
                raise OSError(28, "No space left on device", "/tmp/rows-0.arrow")
            case "unsendable":
                return threading.Lock()
            case "kill" | "exit" | "segfault":
                die(fault)
            case "hang":
                time.sleep(3600)
        raise AssertionError(f"unknown fault {fault}")

    def progress(self):
        return {"tries": float(len(list(self.folder.iterdir())))}

    def stop(self):
        self._stopped.append(True)


@dataclass
class SleepingLabeler:
    """Replaces the labeler in a real run: sleeps for the seconds in the manifest's column `seconds`.

    Waits for the file OUTPUT/go, and writes the start and end of every video to OUTPUT/spans.
    """

    warnings = ()
    settings: LabelerSettings

    def __post_init__(self):
        self._lanes = threading.Semaphore(self.settings.lanes)

    def label(self, task):
        output = Path(self.settings.output)
        with self._lanes:
            while not (output / "go").exists():
                time.sleep(0.1)
            begun = time.time()
            time.sleep(task.video.extra["seconds"][0].as_py())
            with (output / "spans" / str(os.getpid())).open("ab") as file:
                file.write(struct.pack("dd", begun, time.time()))
        return Outcome(video_id=task.video.video_id, frames=1, masks=1, seconds=0.0, was_there=False)

    def progress(self):
        return {"frames": 0.0, "masks": 0.0}

    def stop(self):
        raise AssertionError("not stopped in these tests")


@dataclass
class HeapLabeler:
    """The task is a number of threads; the result is the number of glibc heaps after each has allocated."""

    warnings = ()
    report: Path

    def label(self, count):
        gate = threading.Barrier(count)  # a thread that ends passes its heap to the next one
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(lambda _: (bytearray(1 << 14), gate.wait()), range(count)))
        libc = ctypes.CDLL(None)
        libc.fopen.restype = ctypes.c_void_p
        file = ctypes.c_void_p(libc.fopen(str(self.report).encode(), b"w"))
        libc.malloc_info(0, file)
        libc.fclose(file)
        return self.report.read_text().count("<heap ")

    def progress(self):
        return {}

    def stop(self):
        raise AssertionError("not stopped in these tests")


def die(how):
    """End this process at once, as the kernel, a library or a bug would."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "segfault": signal.SIGSEGV}[how])


def tries(folder, index):
    """Number of attempts at the video."""
    return len(list(folder.glob(f"{index}-*")))


def processes(folder, index):
    """Ids of the processes that attempted the video, in order."""
    names = [path.name.split("-") for path in folder.glob(f"{index}-*")]
    return [int(pid) for _, _, pid in sorted(names, key=lambda name: int(name[1]))]


@dataclass
class NodeLabeler:
    """Makes labelers for a real run that write the label `kind` of their node to a file for each attempt.

    A video whose column `memory` is 1 runs out of memory on nodes of the kind small.
    """

    folder: Path

    def __call__(self, _settings):
        import ray

        self.kind = ray.get_runtime_context().get_node_labels()["kind"]
        return self

    def label(self, task):
        video_id = task.video.video_id
        (self.folder / f"{video_id}~{self.kind}~{time.time_ns()}").touch()
        time.sleep(0.1)
        if self.kind == "small" and task.video.extra["memory"][0].as_py():
            raise MemoryError
        return Outcome(video_id=video_id, frames=1, masks=1, seconds=0.0, was_there=False)

    def progress(self):
        return {"frames": 0.0, "masks": 0.0}

    def stop(self):
        raise AssertionError("not stopped in these tests")
