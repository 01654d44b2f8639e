"""The Argo workflow by the models of Argo's own API (hera), and its exit codes by a real shell."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.workflows.models import CronWorkflow

from tests.infra.tools import INFRA

DOCUMENTS = list(yaml.safe_load_all((INFRA / "argo/nightly.yaml").read_text()))
WORKFLOW = DOCUMENTS[0]
CRON_JOB = yaml.safe_load((INFRA / "kuberay/base/cronjob.yaml").read_text())["spec"]


def template(name: str) -> dict[str, Any]:
    (found,) = (each for each in WORKFLOW["spec"]["workflowSpec"]["templates"] if each["name"] == name)
    return found


def dumped(model: Any) -> Any:
    return model.model_dump(by_alias=True, exclude_unset=True, mode="json")


def texts(value: Any) -> Any:
    """The value with every number and boolean as text: a field of Argo may be either."""
    if isinstance(value, dict):
        return {name: texts(each) for name, each in value.items()}
    return [texts(each) for each in value] if isinstance(value, list) else str(value)


def test_every_field_is_one_of_argos_api() -> None:
    """The models ignore unknown fields, so a misspelled one would be missing in what they write."""
    assert texts(dumped(CronWorkflow.model_validate(WORKFLOW))) == texts(WORKFLOW)


def test_a_misspelled_or_wrong_field_is_found() -> None:
    wrong = {**WORKFLOW, "spec": {**WORKFLOW["spec"], "concurencyPolicy": "Forbid"}}
    assert texts(dumped(CronWorkflow.model_validate(wrong))) != texts(wrong)
    with pytest.raises(ValueError, match="schedules"):
        CronWorkflow.model_validate({**WORKFLOW, "spec": {**WORKFLOW["spec"], "schedules": 20}})


def test_times_limits_retries_and_overlap_are_those_of_the_cron_job() -> None:
    spec, job = WORKFLOW["spec"], CRON_JOB["jobTemplate"]["spec"]
    same = ("concurrencyPolicy", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    assert {name: spec[name] for name in same} == {name: CRON_JOB[name] for name in same}
    assert (spec["schedules"], spec["timezone"]) == ([CRON_JOB["schedule"]], CRON_JOB["timeZone"])
    assert spec["workflowSpec"]["activeDeadlineSeconds"] == job["activeDeadlineSeconds"]
    assert template("submit")["retryStrategy"]["limit"] == job["backoffLimit"]
    container, other = template("submit")["container"], job["template"]["spec"]["containers"][0]
    assert " ".join(container["args"][0].split("\ncode=")[0].replace("\\\n", "").split()) == " ".join(
        [*other["command"], *other["args"]]
    )
    assert container["env"] == other["env"]


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0), (130, 130)])
def test_exit_codes_3_and_4_succeed_and_are_reported(tmp_path: Path, code: int, ends_with: int) -> None:
    stub = tmp_path / "python"
    stub.write_text(f"#!/bin/sh\nexit {code}\n")
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RESULTS": str(tmp_path)}
    container = template("submit")["container"]
    done = subprocess.run([*container["command"], *container["args"]], env=environment, timeout=60, check=False)
    assert (done.returncode, (tmp_path / "exit-code").read_text()) == (ends_with, f"{code}\n")
    steps = {each["name"]: each.get("when", "") for group in template("night")["steps"] for each in group}
    named = {name for name, when in steps.items() if when.endswith(f"== {code}")}
    assert named == {3: {"warn"}, 4: {"continues-tomorrow"}}.get(code, set())
