"""The real labeler with faults injected into some attempts, as tests/runs/chaos.py's settings say."""

import json
import os
import struct
import threading
import time
from pathlib import Path

from pipeline.workers.labeler import Labeler
from tests.workers.simulated import die


class FaultyLabeler(Labeler):
    """Writes a file per attempt with the time of every frame."""

    def __init__(self, settings):
        super().__init__(settings, on_frame=self._write_time)
        self._lane = threading.local()

    def label(self, task):
        folder, name = Path(os.environ["CHAOS_FOLDER"]), task.video.video_id
        number = len(list((folder / "tries").glob(f"{name}~*"))) + 1
        (folder / "tries" / f"{name}~{number}~{time.time_ns()}").touch()
        faults = json.loads((folder / "settings.json").read_text())["faults"].get(name, [])
        fault = faults[number - 1] if number <= len(faults) else "none"
        fault, _, self._lane.ends_at = fault.partition("@")
        self._lane.fault, self._lane.done = fault, 0
        if not self._lane.ends_at:
            strike(fault)
        with (folder / "frames" / f"{name}~{number}").open("wb") as self._lane.file:
            return super().label(task)

    def _write_time(self, _):
        self._lane.file.write(struct.pack("d", time.time()))
        self._lane.file.flush()
        self._lane.done += 1
        if str(self._lane.done) == self._lane.ends_at:
            strike(self._lane.fault)


def strike(fault):
    """Inject the fault into this process."""
    match fault:
        case "none":
            return
        case "exception":
            raise RuntimeError("struck by chaos")
        case "memory":
            raise MemoryError("struck by chaos")
        case "reset":
            raise ConnectionResetError("struck by chaos")
        case "kill" | "exit" | "segfault":
            die(fault)
        case "hang":
            time.sleep(10_000)
        case "wait":
            while not (Path(os.environ["CHAOS_FOLDER"]) / "go").exists():
                time.sleep(0.1)
        case "balloon":
            swell()
        case "confined balloon":
            (Path(os.environ["CHAOS_GROUP"]) / "cgroup.procs").write_text(str(os.getpid()))
            swell()
        case _:
            raise AssertionError(f"unknown fault {fault}")


def swell():
    """Take 200 MB more every second, for ever: slower than Ray's memory monitor looks."""
    swollen = []
    while True:
        swollen.append(b"x" * 20_000_000)
        time.sleep(0.1)
