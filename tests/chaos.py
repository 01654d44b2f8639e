"""Labelling under faults: `python -m tests.chaos MANIFEST OUTPUT FOLDER` drives workers that do what a table says.

FOLDER/faults.json maps a video id to what its first, second, ... try does; every try leaves a file in FOLDER/tries.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from pipeline import run
from pipeline.config import RunConfig
from pipeline.labeler import Labeler

DEADLINE_S = 20.0


class FaultyLabeler(Labeler):
    """The real labeler, struck down before some of its tries."""

    def label(self, task):
        folder = Path(os.environ["CHAOS_FOLDER"])
        name = task.video.video_id
        tries = len(list((folder / "tries").glob(f"{name}-*"))) + 1
        (folder / "tries" / f"{name}-{tries}-{os.getpid()}-{time.time_ns()}").touch()
        faults = json.loads((folder / "faults.json").read_text()).get(name, [])
        strike(faults[tries - 1] if tries <= len(faults) else "none")
        return super().label(task)


def strike(fault: str) -> None:
    """Do to this process what the fault says."""
    match fault:
        case "none":
            return
        case "exception":
            raise RuntimeError("struck by chaos")
        case "memory":
            raise MemoryError("struck by chaos")
        case "reset":
            raise ConnectionResetError("struck by chaos")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(1)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(10_000)
        case _:
            raise AssertionError(f"unknown fault {fault}")


def main(manifest: str, output: str, folder: str, *options: str) -> int:
    """Run the driver; returns the run's exit code."""
    os.environ["CHAOS_FOLDER"] = folder
    run.Labeler = FaultyLabeler
    config = RunConfig(
        manifest=manifest,
        output=output,
        model="embedded",
        actors=2,
        cpus_per_actor=0.5,
        lanes=1 if "--one" in options else 3,
        deadline_floor_s=DEADLINE_S,
        checkpoint_every_s=2.0,
    )
    return run.label_corpus(config).exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
