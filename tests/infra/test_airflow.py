"""The Airflow DAG as Airflow itself loads it, and what its task makes of the night's exit codes.

AIRFLOW_PYTHON is the Python of an environment with Airflow 3, which is 300 MB and has pins of its own.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.tools import INFRA

CODES = (0, 1, 2, 3, 4, 130)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `airflow_facts.py` prints, with an executable of each exit code in place of Python."""
    python = os.environ.get("AIRFLOW_PYTHON")
    if not python:
        pytest.skip("set AIRFLOW_PYTHON to the Python of an environment with Airflow 3")
    home, stubs = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("stubs")
    for code in CODES:
        (stubs / str(code)).write_text(f'#!/bin/sh\necho "$*" > {home}/command\nexit {code}\n')
        (stubs / str(code)).chmod(0o755)
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, Path(__file__).with_name("airflow_facts.py"), INFRA / "airflow", stubs],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads((stubs / "facts.json").read_text()), "command": (home / "command").read_text().strip()}


def test_airflow_loads_the_dag_with_the_cron_jobs_times_and_limits(facts: dict[str, Any]) -> None:
    cron_job = yaml.safe_load((INFRA / "kuberay/base/cronjob.yaml").read_text())["spec"]
    job = cron_job["jobTemplate"]["spec"]
    assert facts["errors"] == {}
    assert facts["schedule"] == cron_job["schedule"]
    assert "UTC" in facts["timezone"]
    assert facts["limits_s"] == [job["activeDeadlineSeconds"]] * 2
    assert facts["retries"] == job["backoffLimit"]
    (container,) = job["template"]["spec"]["containers"]
    assert facts["command"].split() == [*container["command"][1:], *container["args"]]


def test_airflow_runs_one_night_at_a_time(facts: dict[str, Any]) -> None:
    assert (facts["max_active_runs"], facts["catchup"]) == (1, False)


def test_airflow_fails_on_code_2_and_retries_others_but_3_and_4(facts: dict[str, Any]) -> None:
    assert facts["outcomes"] == {
        "0": "returns 0",
        "1": "AirflowException",
        "2": "AirflowFailException",
        "3": "returns 3",
        "4": "returns 4",
        "130": "AirflowException",
    }
