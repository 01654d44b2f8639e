"""Every night with Airflow 3, in place of a CronJob: submits the night to the Ray head, follows it, maps its exit code.

Copy this file into Airflow's DAG folder. The worker that runs the task needs, in its environment:

    SAM2_CORPUS_PYTHON   Python of an environment with sam2-corpus and the Ray version of the cluster (default: python)
    SAM2_CORPUS_HEAD     Ray's dashboard (default: http://sam2-corpus-head-svc:8265)
    SAM2_CORPUS_CONFIG   nightly.toml (default: /etc/sam2-corpus/nightly.toml)
    RAY_AUTH_MODE=token, RAY_AUTH_TOKEN

The task returns the exit code. 0 no new failures. 3 new failures or bad rows: succeeds, with a warning. 4
stopped before the end: succeeds, and the next night continues. 2 wrong settings: fails at once. All others are retried
three times; an attempt that finds the night running follows it.
"""

import logging
import os
import subprocess
from datetime import timedelta

import pendulum
from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

log = logging.getLogger(__name__)

LIMIT = timedelta(hours=12)
"""Must not reach the next night."""


@task(retries=3, retry_delay=timedelta(minutes=1), execution_timeout=LIMIT)
def night() -> int:
    """Run the night; returns its exit code, if it is one that succeeds."""
    python = os.environ.get("SAM2_CORPUS_PYTHON", "python")
    head = os.environ.get("SAM2_CORPUS_HEAD", "http://sam2-corpus-head-svc:8265")
    config = os.environ.get("SAM2_CORPUS_CONFIG", "/etc/sam2-corpus/nightly.toml")
    command = [python, "-m", "jobs.submit", "--address", head, "--follow", "nightly", "--config", config]
    with subprocess.Popen([*command, "--address", "auto"]) as process:
        try:
            code = process.wait()
        finally:
            process.terminate()  # if Airflow ends the task; the night goes on, and the next attempt follows it
    match code:
        case 0:
            return code
        case 3:
            log.warning("videos failed or rows were bad that were not so before; see the night's page")
            return code
        case 4:
            log.warning("stopped before the end; the next night continues")
            return code
        case 2:
            raise AirflowFailException("wrong settings (exit code 2); a retry does not help")
    raise AirflowException(f"the night ended with exit code {code}")


@dag(
    schedule=CronTriggerTimetable("0 20 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,  # nights do not overlap
    dagrun_timeout=LIMIT,
    tags=["sam2-corpus"],
)
def sam2_nightly() -> None:
    """One night."""
    night()


sam2_nightly()
