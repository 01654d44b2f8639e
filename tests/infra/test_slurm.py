"""The Slurm script under a real bash, with stand-ins for Slurm, Ray and Python that write down what they are asked."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.infra.tools import INFRA, program

SCRIPT = INFRA / "slurm/nightly.sbatch"

STUBS = {
    "scontrol": 'printf "gpu1\\ngpu2\\ngpu3\\n"',
    # a job step: runs its command here, and passes SIGTERM on as srun does
    "srun": """
        for word in "$@"; do case $word in --nodelist=*) export NODE=${word#*=};; esac; done
        while [[ $1 == --* ]]; do shift; done
        exec "$@" """,
    "ray": """
        trap 'echo "ray on $NODE ended" >> "$LOG"; exit 0' TERM
        echo "ray on $NODE token=${#RAY_AUTH_TOKEN} $RAY_AUTH_TOKEN: $*" >> "$LOG"
        while :; do sleep 0.05; done""",
    "python": """
        if [[ $1 == - ]]; then
            cat > /dev/null
            echo "wait for $3 nodes at $2" >> "$LOG"
            until (($(grep -c "start --block" "$LOG") >= $3)); do ((SECONDS < 60)) || exit 1; sleep 0.02; done
            exit 0
        fi
        trap 'echo "driver got TERM" >> "$LOG"; sleep 0.3; exit 4' TERM
        echo "python $*" >> "$LOG"
        for _ in $(seq "${DRIVER_TENTHS:-1}"); do sleep 0.1; done
        exit "${DRIVER_CODE:-0}" """,
}


class Night:
    """The script running in a folder of stand-ins."""

    def __init__(self, folder: Path) -> None:
        program("bash", "Debian's bash")
        self.log = folder / "log"
        stubs = folder / "venv/bin"
        stubs.mkdir(parents=True)
        for name, body in STUBS.items():
            (stubs / name).write_text(f"#!/bin/bash\n{body}\n")
            (stubs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{stubs}:{os.environ['PATH']}",
            "SAM2_CORPUS_VENV": str(folder / "venv"),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "gpu[1-3]",
            "LOG": str(self.log),
        }

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", SCRIPT, *arguments],
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_driver(self) -> None:
        deadline = time.monotonic() + 60
        while not any("jobs.nightly" in line for line in (self.lines() if self.log.exists() else [])):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def test_starts_ray_on_every_node_runs_the_nightly_and_ends_ray(night: Night) -> None:
    process = night.start("nightly.toml", "--stop-at", "06:00", DRIVER_CODE="3")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    lines = night.lines()
    started = sorted(line for line in lines if "start --block" in line)  # each tells of itself when it gets to run
    assert [line.split()[2] for line in started] == ["gpu1", "gpu2", "gpu3"]
    assert "--head --port=24711" in started[0]
    assert all("--address=gpu1:24711" in line for line in started[1:])
    assert "wait for 3 nodes at gpu1:24711" in lines
    assert "python -m jobs.nightly --config nightly.toml --address gpu1:24711 --stop-at 06:00" in lines
    assert sorted(line for line in lines if line.endswith("ended")) == [f"ray on gpu{n} ended" for n in (1, 2, 3)]


def test_one_random_token_for_all_and_in_no_argument(night: Night) -> None:
    night.start("nightly.toml").communicate(timeout=60)
    tokens = {line.split()[4].rstrip(":") for line in night.lines() if "start --block" in line}
    (token,) = tokens
    assert len(token) == 64
    assert all(token not in line.split(": ", 1)[-1] for line in night.lines())


def test_the_signal_before_the_time_limit_reaches_the_driver(night: Night) -> None:
    process = night.start("nightly.toml", DRIVER_TENTHS="2000")
    night.wait_for_driver()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output
    assert "driver got TERM" in night.lines()
    assert sum(line.endswith("ended") for line in night.lines()) == 3


def test_a_driver_that_ends_early_keeps_its_exit_code(night: Night) -> None:
    slow = {"BASH_FUNC_kill%%": '() { builtin kill "$@" && sleep 1; }'}
    process = night.start("nightly.toml", DRIVER_TENTHS="2000", **slow)
    night.wait_for_driver()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output


def test_says_how_it_is_used(night: Night) -> None:
    process = night.start()
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "usage: sbatch nightly.sbatch NIGHTLY.TOML" in output
