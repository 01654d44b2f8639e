"""Submit any job of this project to a Ray cluster, through Ray's job API.

    python -m jobs.submit --address http://head:8265 --follow nightly --config nightly.toml

Resubmitting a running job attaches to it; once it has ended, the job gets the next attempt number. Files named by
--config, --storage and --video-ids are sent with the job. Credentials are not sent: the nodes of the cluster have their
own in their environment. RAY_AUTH_TOKEN authenticates to a cluster that requires a token.
"""

import argparse
import asyncio
import importlib
import logging
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.command import command_names, handle_errors, start
from jobs.command_line import Parser
from pipeline.errors import UsageError
from pipeline.runs.nightly.clock import check_night, night_of, zone_of
from pipeline.runs.submission import Decision, Job, decide, make_job
from pipeline.runs.values import read_toml

log = logging.getLogger("submit")

POLL_S = 1.0
SUBMIT_ATTEMPTS = 20
BUSY_PAUSE_S = 3.0
BUSY = re.compile(r"no available agent|agent.*(busy|not available)|try again later", re.IGNORECASE)
"""Answers of Ray's dashboard when no agent can take a job at the moment."""
PATIENCE_S = 300.0
"""Seconds without an answer from the head after which following a job fails."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.submit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: with --wait or --follow that of the job, otherwise 0 when it was submitted;\n"
        "2 wrong usage; 130 Ctrl-C; 1 the cluster cannot be reached, or the job ended without an exit code",
    )
    add = p.add_argument
    add("--address", metavar="URL", help="Ray's dashboard, e.g. http://head:8265 (default: RAY_ADDRESS)")
    add("--wait", action="store_true", help="wait until the job ends")
    add("--follow", action="store_true", help="print the log of the job until it ends")
    add("job", metavar="JOB", help="command to run on the cluster: label, nightly, publish, ...")
    add("arguments", metavar="...", nargs=argparse.REMAINDER, help="arguments of that command")
    return p


def read_job(command: str, arguments: list[str], *, now: datetime) -> Job:
    """The job of a command line; a nightly without --night is fixed to the present night.

    Raises:
        UsageError: There is no such command, or its arguments cannot be used.
    """
    known = [name for name in command_names() if name != "submit"]
    if command not in known:
        raise UsageError(f"there is no job {command!r}; allowed are {', '.join(known)}")
    if command != "nightly":
        return make_job(command, arguments)
    p = Parser(prog="python -m jobs.nightly", add_help=False)
    p.add_argument("--config", required=True)
    p.add_argument("--night")
    given, rest = p.parse_known_args(arguments)
    night = (
        check_night(given.night)
        if given.night
        else night_of(now, zone_of(str(read_toml(given.config).get("timezone", "UTC"))))
    )
    return make_job(command, ["--config", given.config, *rest], night=night)


def check_arguments(command: str, arguments: list[str]) -> None:
    """Check the command line of the job as the job itself does; a wrong one ends this process with exit code 2.

    Raises:
        UsageError: Options contradict each other or have values that are not allowed.
    """
    module = importlib.import_module(f"jobs.{command}")
    if command in ("label", "detect"):
        module.read_options(arguments)
    elif hasattr(module, "parse"):  # a job of several commands
        module.parse(arguments)
    else:
        module.parser().parse_args(arguments)


def submit(client: Any, job: Job, *, pause_s: float = BUSY_PAUSE_S) -> Decision:
    """Submit the job, or find the submission that is running it.

    An attempt is repeated after `pause_s` if another process took its number, or if no agent of the cluster is free to
    take jobs, which happens while a head node starts.
    """
    for _ in range(SUBMIT_ATTEMPTS):
        decision = decide(
            job, {each.submission_id: each.status.is_terminal() for each in client.list_jobs() if each.submission_id}
        )
        if decision.running:
            return decision
        with tempfile.TemporaryDirectory(prefix="sam2-corpus-") as folder:
            for name, content in job.files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            try:
                client.submit_job(
                    entrypoint=job.entrypoint,
                    submission_id=decision.id,
                    runtime_env={"working_dir": folder} if job.files else {},
                    metadata={"night": job.night} if job.night else {},
                )
                return decision
            except RuntimeError as error:
                if "already exists" in str(error):
                    log.info("another process has just submitted %s", decision.id)
                elif BUSY.search(str(error)):
                    log.warning("the cluster has no free agent for the job; trying again in %.0f s", pause_s)
                    time.sleep(pause_s)
                else:
                    raise
    raise RuntimeError(f"{job.name} was not accepted in {SUBMIT_ATTEMPTS} attempts; try again later")


def wait(client: Any, job: str, *, show: Callable[[str], None] | None) -> int:
    """Wait for a job's end, showing its log meanwhile; returns its exit code."""
    import aiohttp  # Ray's client speaks through it

    answered, tail = time.monotonic(), _Tail(show) if show else None
    while True:
        try:
            if tail:
                asyncio.run(tail.follow(client, job))
            details = client.get_job_info(job)
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            if time.monotonic() - answered > PATIENCE_S:
                raise RuntimeError(f"no answer for {PATIENCE_S:.0f} s: {error}") from None
            log.warning("the cluster does not answer (%s); retrying", " ".join(str(error).split())[:200])
            time.sleep(POLL_S)
            continue
        answered = time.monotonic()
        if details.status.is_terminal():
            code = exit_code(details.status.value, details.driver_exit_code)
            log.info("%s has ended with exit code %d", job, code)
            return code
        time.sleep(POLL_S)


def exit_code(status: str, driver: int | None) -> int:
    """The exit code of a job: its own, or 4 when it was stopped and 1 when it was killed."""
    if driver is not None and driver >= 0:
        return driver
    return {"SUCCEEDED": 0, "STOPPED": 4}.get(status, 1)


class _Tail:
    """Shows the log of a job as it grows, each piece once, also after reconnects."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._shown = show, 0

    async def follow(self, client: Any, job: str) -> None:
        """Show the log until the job ends; the cluster sends it from the beginning on each connection."""
        seen = 0
        async for piece in client.tail_job_logs(job):
            self._show(piece[max(0, self._shown - seen) :])
            seen += len(piece)
            self._shown = max(self._shown, seen)


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    job = read_job(given.job, given.arguments, now=datetime.now(UTC))
    check_arguments(given.job, given.arguments)
    from ray.job_submission import JobSubmissionClient

    try:
        logging.getLogger("ray").setLevel(logging.WARNING)  # it logs every package and socket
        client = JobSubmissionClient(given.address)
        decision = submit(client, job)
        print(f"{decision.id}: {'already running' if decision.running else 'submitted'}", flush=True)
        if not (given.wait or given.follow):
            print("\n".join(_next_steps(given, decision.id)))
            return 0
        return wait(client, decision.id, show=_show if given.follow else None)
    except (RuntimeError, OSError) as error:  # what Ray's client raises
        print(f"error: the cluster at {given.address}: {' '.join(str(error).split())[:500]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("the job keeps running; the same command attaches to it", file=sys.stderr)
        return 130


def _next_steps(given: argparse.Namespace, submission: str) -> list[str]:
    """Commands that follow the job, show its state and stop it."""
    at = f" --address {given.address}" if given.address else ""
    again = shlex.join([given.job, *given.arguments])
    return [
        f"follow:  python -m jobs.submit{at} --follow {again}",
        f"status:  ray job status{at} {submission}",
        f"stop:    ray job stop{at} {submission}      (checkpoints first; the next submission continues)",
    ]


def _show(piece: str) -> None:
    print(piece, end="", flush=True)


if __name__ == "__main__":
    start(main)
