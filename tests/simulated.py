"""A labeler that labels nothing: what the n-th try of a video does is written in a table, and every try is counted."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import VideoError


@dataclass(frozen=True)
class SimulatedTask:
    """A video that takes `seconds`; its n-th try does `faults[n - 1]`, and succeeds beyond."""

    index: int
    seconds: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass
class SimulatedLabeler:
    """Counts tries as files in `folder`, so that counts survive whatever the faults kill."""

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
                raise RuntimeError(f"video {task.index} is cursed")
            case "decode":
                raise VideoError("not a video")
            case "memory":
                raise MemoryError
            case "allocation":
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            case "cuda":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(3)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(3600)
        raise AssertionError(f"unknown fault {fault}")

    def progress(self):
        return {"tries": float(len(list(self.folder.iterdir())))}

    def stop(self):
        self._stopped.append(True)


def tries(folder, index):
    """How often the video was tried."""
    return len(list(folder.glob(f"{index}-*")))


def processes(folder, index):
    """Ids of the processes that tried the video, in the order of the tries."""
    names = [path.name.split("-") for path in folder.glob(f"{index}-*")]
    return [int(pid) for _, _, pid in sorted(names, key=lambda name: int(name[1]))]
