import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import submit as job
from pipeline.errors import UsageError
from pipeline.runs.submission import Decision, decide, make_job

NOW = datetime(2026, 11, 23, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("nightly.toml").write_text('timezone = "Europe/Berlin"\n[label]\nstorage = "sub/storage.toml"\n')
    Path("sub").mkdir()
    Path("sub/storage.toml").write_text('["s3://b"]\nendpoint = "http://s3"\n')
    return tmp_path


@pytest.mark.usefixtures("config")
def test_the_same_night_and_work_have_the_same_name() -> None:
    def name(*arguments: str, now: datetime = NOW) -> str:
        return job.read_job("nightly", ["--config", "nightly.toml", *arguments], now=now).name

    first = name()
    assert first.startswith("nightly-2026-11-22-")
    assert name(now=datetime(2026, 11, 22, 20, tzinfo=UTC)) == first
    assert name("--night", "2026-11-22") == first
    assert name(now=datetime(2026, 11, 23, 20, tzinfo=UTC)) != first
    assert name("--stop-at", "05:00") != first
    Path("sub/storage.toml").write_text('["s3://b"]\nendpoint = "http://other"\n')
    assert name() != first


def test_the_configuration_and_the_storage_it_names_travel_with_the_job(config: Path) -> None:
    work = job.read_job("nightly", [f"--config={config}/nightly.toml", "--stop-at", "06:00"], now=NOW)
    assert work.entrypoint == ("python -m jobs.nightly --config files/nightly.toml --stop-at 06:00 --night 2026-11-22")
    assert set(work.files) == {"files/nightly.toml", "sub/storage.toml"}


def test_arguments_reach_the_job_as_they_were_given() -> None:
    work = make_job("label", ["--manifest", "a b.parquet", "--output", "$HOME;rm -rf x"], environment={})
    assert work.entrypoint == "python -m jobs.label --manifest 'a b.parquet' --output '$HOME;rm -rf x'"


@pytest.mark.parametrize(
    ("jobs", "decision"),
    [
        ({}, Decision("label-x-1", False)),
        ({"1": True}, Decision("label-x-2", False)),
        ({"1": True, "2": False}, Decision("label-x-2", True)),
        ({"2": True, "10": True}, Decision("label-x-11", False)),
        ({"1": False, "2": True}, Decision("label-x-1", True)),
    ],
)
def test_a_running_job_is_followed_and_an_ended_one_resubmitted(jobs: dict[str, bool], decision: Decision) -> None:
    work = make_job("label", [], environment={})
    jobs = {f"{work.name}-{number}": ended for number, ended in jobs.items()} | {"raysubmit_7": False, "label-7": False}
    expected = Decision(decision.id.replace("label-x", work.name), decision.running)
    assert decide(work, jobs) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "s3://key:secret@bucket/x",
        "https://host/a.parquet?X-Amz-Signature=abc&X-Amz-Credential=k",
        "--output=s3://u:p@b",
    ],
)
def test_credentials_in_an_argument_are_refused_without_repeating_them(argument: str) -> None:
    with pytest.raises(UsageError, match="holds credentials") as caught:
        make_job("label", ["--manifest", argument], environment={})
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.usefixtures("config")
def test_secret_values_are_refused_in_arguments_and_files() -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "sesame-open-7", "RAY_AUTH_TOKEN": "token-123456", "HOME": "/home/user"}
    with pytest.raises(UsageError, match="the value of RAY_AUTH_TOKEN") as caught:
        make_job("label", ["--model", "token-123456"], environment=secrets)
    assert "token-123456" not in str(caught.value)
    Path("run.toml").write_text('key = "sesame-open-7"\n')
    with pytest.raises(UsageError, match=r"run\.toml holds the value of AWS_SECRET_ACCESS_KEY"):
        make_job("label", ["--config", "run.toml"], environment=secrets)
    make_job("label", ["--output", "/home/user/out"], environment=secrets)


def test_a_file_outside_the_folder_travels_under_its_own_name(config: Path) -> None:
    (config.parent / "outside.toml").write_text("x = 1")
    work = make_job("label", ["--config", "../outside.toml"], environment={})
    assert work.arguments == ("--config", "files/outside.toml")
    with pytest.raises(UsageError, match="cannot read none"):
        make_job("label", ["--config", "none.toml"], environment={})


def test_an_unknown_job_is_refused_with_the_list_of_jobs() -> None:
    with pytest.raises(UsageError, match=r"allowed are .*label.*nightly"):
        job.read_job("../../etc/x", [], now=NOW)
    with pytest.raises(UsageError, match="no job 'submit'"):
        job.read_job("submit", [], now=NOW)


def test_options_of_a_detector_are_checked_without_looking_for_the_detector() -> None:
    """The submitting machine may have no access to the hub; planning on the cluster fills in the default threshold."""
    detector, corpus = "nobody/no-such-detector", ["--output", "o", "--model", "embedded"]
    label = [*corpus, "--manifest", "clips", "--detect", "car", "--detector", detector]
    detect = ["--videos", "clips", "--output", "o", "--model", detector, "--classes", "car"]
    job.check_arguments("label", label)
    job.check_arguments("detect", detect)
    for command, arguments in (("label", label), ("detect", detect)):
        with pytest.raises(UsageError, match="--threshold is 7"):
            job.check_arguments(command, [*arguments, "--threshold", "7"])


class Cluster:
    """Ray's job API, as far as a submitter sees it."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.refuse_next = False
        self.busy = 0
        self.files: list[str] = []

    def list_jobs(self) -> list[Any]:
        return list(self.jobs.values())

    def submit_job(self, *, entrypoint: str, submission_id: str, runtime_env: Any, **_: Any) -> None:
        if self.busy:
            self.busy -= 1
            raise RuntimeError("No available agent to submit job, please try again later.")
        if self.refuse_next:
            self.refuse_next = False
            self.add(submission_id, "RUNNING")
        if submission_id in self.jobs:
            raise RuntimeError(f"Job with submission_id {submission_id} already exists.")
        if folder := runtime_env.get("working_dir"):
            self.files = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.toml"))
        self.add(submission_id, "RUNNING")
        self.jobs[submission_id].entrypoint = entrypoint

    def add(self, name: str, status: str, code: int | None = None) -> None:
        state = SimpleNamespace(value=status, is_terminal=lambda: status not in ("RUNNING", "PENDING"))
        self.jobs[name] = SimpleNamespace(submission_id=name, status=state, driver_exit_code=code)

    def get_job_info(self, name: str) -> Any:
        return self.jobs[name]

    async def tail_job_logs(self, name: str) -> Any:
        for piece in ("one\n", "two\n"):
            yield piece
        if not getattr(self, "broken", False):
            self.broken = True
            raise RuntimeError("connection closed")
        yield "three\n"
        self.add(name, "FAILED", 3)


@pytest.mark.usefixtures("config")
def test_a_second_submission_follows_the_first_until_it_ends() -> None:
    cluster, work = Cluster(), job.read_job("nightly", ["--config", "nightly.toml"], now=NOW)
    first = job.submit(cluster, work)
    assert cluster.files == ["nightly.toml", "sub/storage.toml"]
    assert job.submit(cluster, work) == Decision(first.id, running=True)
    cluster.add(first.id, "SUCCEEDED", 0)
    assert job.submit(cluster, work) == Decision(f"{work.name}-2", running=False)
    assert len(cluster.jobs) == 2


def test_of_two_who_submit_at_once_the_slower_follows() -> None:
    cluster, work = Cluster(), make_job("label", [], environment={})
    cluster.refuse_next = True
    assert job.submit(cluster, work) == Decision(f"{work.name}-1", running=True)


def test_a_submission_is_repeated_while_no_agent_is_free() -> None:
    cluster, work = Cluster(), make_job("label", [], environment={})
    cluster.busy = 3
    assert job.submit(cluster, work, pause_s=0.0) == Decision(f"{work.name}-1", running=False)
    cluster.busy = 99
    with pytest.raises(RuntimeError, match="was not accepted in 20 attempts"):
        job.submit(cluster, make_job("publish", [], environment={}), pause_s=0.0)


def test_a_broken_connection_repeats_no_log_line_and_keeps_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "POLL_S", 0.0)
    cluster, shown = Cluster(), []
    cluster.add("x", "RUNNING")
    assert job.wait(cluster, "x", show=shown.append) == 3
    assert "".join(shown) == "one\ntwo\nthree\n"


def test_a_job_that_was_stopped_or_killed_has_an_exit_code_too() -> None:
    assert [job.exit_code(*end) for end in (("SUCCEEDED", 0), ("FAILED", 3), ("STOPPED", None), ("FAILED", -9))] == [
        0, 3, 4, 1,
    ]  # fmt: skip


def test_the_environment_is_looked_at_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "MY_API_KEY", "0123456789")
    with pytest.raises(UsageError, match="MY_API_KEY"):
        make_job("label", ["0123456789"])
