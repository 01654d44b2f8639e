"""Why runs end early: the first signal checkpoints, the second exits; times and budgets ask only once."""

import signal
import subprocess
import sys

import pytest

from pipeline.runs.config import RunConfig
from pipeline.runs.progress import Progress
from pipeline.runs.stops import StopConditions
from tests.clips import red, write_clip, write_manifest


def config(**given) -> RunConfig:
    return RunConfig(manifest="m", output="o", model="embedded", **given)


def progress(**given) -> Progress:
    return Progress(**{"run_id": "r", "videos": 1, "started": 0.0, "now": 10.0, **given})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop_and_the_second_interrupts(number, caplog):
    before = signal.getsignal(number)
    with StopConditions(config()) as stops:
        signal.raise_signal(number)
        assert stops.due(progress())
        assert stops.asked == "signal"
        assert "checkpointing in-flight videos; press Ctrl-C again to exit immediately" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(number) is before


def test_a_time_or_a_budget_stops_a_run_and_the_first_reason_stays():
    stops = StopConditions(config(stop_at=20.0, budget_gpu_hours=0.5))
    assert not stops.due(progress(gpu_hours=0.4))
    assert stops.due(progress(actor_hours=0.5))
    assert stops.due(progress(now=20.0))
    assert stops.asked == "budget"
    assert StopConditions(config(stop_at=20.0)).due(progress(now=20.0))


INTERRUPTED_TWICE = """
import signal, sys, time
from functools import partial
from jobs.command import start
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus

def label_pending(*_, **__):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)

config = RunConfig(manifest=sys.argv[1], output=sys.argv[2], model="embedded")
start(lambda _: label_corpus(config, label_pending=label_pending).exit_code)
"""


def test_a_second_signal_ends_a_command_with_one_line_and_frees_its_lease(tmp_path):
    rows = [{"video_id": "v", "video_uri": write_clip(tmp_path / "v.mp4"), "prompts": [red()]}]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    command = [sys.executable, "-c", INTERRUPTED_TWICE, manifest, str(tmp_path / "out")]
    for _ in range(2):  # the lease of the first is free for the second
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 130, done.stderr
        assert done.stderr.splitlines()[-1] == "interrupted"
        assert "Traceback" not in done.stderr
