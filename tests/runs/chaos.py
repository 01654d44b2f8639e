"""Labelling under faults: `python -m tests.runs.chaos FOLDER` runs one driver as FOLDER/settings.json says.

Every try of a video leaves a file in FOLDER/tries, and every frame that it labels a time in FOLDER/frames.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from pipeline import logs
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.storage.lease import Lease
from pipeline.tables import publish

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a driver labels, and what shall go wrong."""

    config: dict
    """Fields of RunConfig."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """By video_id what its first, second, ... try does (tests.workers.faulty), FAULT@N after N frames; none after."""
    lease: tuple[float, float] = (10.0, 45.0)
    """Seconds between two heartbeats, and until a lease is stale."""
    dies_after_tables: int = 0
    """The driver kills itself when so many commits of tables are done."""


def start(folder, settings, *, env=None, prefix=()):
    """A driver in a session of its own, so that a crash of the machine can be played."""
    for name in ("tries", "frames"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(asdict(settings)))
    with (folder / "log").open("ab") as output:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.runs.chaos", str(folder)],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def crash(driver):
    """SIGKILL to a driver that leads a session, and to all that it started; nothing of it runs afterwards."""
    while running := _running(driver.pid):
        for process in running:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    driver.wait()


def _running(session):
    """Processes of a session. Ray puts each worker into a process group of its own, but not into another session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, its_session, *_ = path.read_text().rpartition(")")[2].split()
            if state != "Z" and int(its_session) == session:
                found.append(int(path.parent.name))
    return found


def wait_for(condition, driver, timeout_s=600):
    """Wait until the condition holds, while the driver lives."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert driver.poll() is None, f"the driver ended with {driver.returncode}"
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)


def tries(folder):
    """How often each video was tried, by video_id."""
    counts = {}
    for path in (folder / "tries").iterdir():
        name = path.name.partition("~")[0]
        counts[name] = counts.get(name, 0) + 1
    return counts


def frames(folder, name):
    """When each frame of a video was labelled, one list a try, in the order of the tries."""
    files = sorted((folder / "frames").glob(f"{name}~*"), key=lambda path: int(path.name.split("~")[1]))
    return [[t for (t,) in struct.iter_unpack("d", path.read_bytes())] for path in files]


def load_faulty(settings):
    """A worker's labeler, in the worker: as in a real run, the driver does without torch."""
    from tests.workers.faulty import FaultyLabeler

    return FaultyLabeler(settings)


def main(folder):
    """Run the driver; returns the run's exit code."""
    os.environ["CHAOS_FOLDER"] = folder
    logs.setup("text", stream=None)
    settings = Settings(**json.loads((Path(folder) / "settings.json").read_text()))
    commits = []

    def after_table(_):
        commits.append(time.time())
        if len(commits) == settings.dies_after_tables:
            os.killpg(0, signal.SIGKILL)

    beat_s, stale_s = settings.lease
    report = label_corpus(
        RunConfig(**settings.config),
        load_labeler=load_faulty,
        lease=partial(Lease, beat_s=beat_s, stale_s=stale_s),
        publish=partial(publish, after_table=after_table),
    )
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
