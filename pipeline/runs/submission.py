"""A command as a Ray job: equal jobs have equal names, and Ray's dashboard shows no secret of them.

Ray refuses a submission id that was used before. So an id is the name of the job and an attempt number, and the list of
submissions shows whether the job is already running.
"""

import hashlib
import os
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pipeline.errors import UsageError
from pipeline.storage import redact
from pipeline.storage.uris import expanded

FILE_OPTIONS = ("--config", "--storage", "--video-ids")
"""Options whose value is a small local file that is sent with the job."""

FILE_BYTES = 2**20
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY")
SECRET_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command and the local files in its arguments."""

    command: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Contents by path relative to the job's working folder, as in `arguments`."""
    night: str | None = None

    @property
    def entrypoint(self) -> str:
        """The command line that the cluster runs, with the first python on its PATH."""
        return shlex.join(["python", "-m", f"jobs.{self.command}", *self.arguments])

    @property
    def name(self) -> str:
        """The command, its night, and a digest of command line and files: equal for equal jobs."""
        digest = hashlib.sha256(repr((self.command, self.arguments, sorted(self.files.items()))).encode()).hexdigest()
        return "-".join([self.command, *([self.night] if self.night else []), digest[:12]])


@dataclass(frozen=True)
class Decision:
    """Attach to the running submission `id`, or submit under this new id."""

    id: str
    running: bool


def decide(job: Job, submissions: Mapping[str, bool]) -> Decision:
    """Attach to a submission of this job that has not ended, else submit the next attempt.

    Args:
        job: the job to run.
        submissions: every submission id of the cluster, and whether it has ended.
    """
    numbers: dict[int, bool] = {}
    for name, ended in submissions.items():
        head, _, number = name.rpartition("-")
        if head == job.name and number.isdigit():
            numbers[int(number)] = ended
    if running := [number for number, ended in numbers.items() if not ended]:
        return Decision(f"{job.name}-{max(running)}", running=True)
    return Decision(f"{job.name}-{max(numbers, default=0) + 1}", running=False)


def make_job(
    command: str,
    arguments: Sequence[str],
    *,
    night: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Job:
    """The job of a command, with the files that its arguments name.

    Raises:
        UsageError: A file cannot be read, or a secret would show in the cluster's dashboard.
    """
    files: dict[str, bytes] = {}
    given = [_shipped(option, value, files) for option, value in _pairs(arguments)]
    for content in list(files.values()):
        _ship_storage(content, files)
    if night:
        given.append(["--night", night])
    job = Job(command=command, arguments=tuple(piece for pieces in given for piece in pieces), files=files, night=night)
    refuse_secrets(job, environment=os.environ if environment is None else environment)
    return job


def refuse_secrets(job: Job, *, environment: Mapping[str, str]) -> None:
    """Raise a UsageError when the job holds a password, a signed URL or the value of a secret variable."""
    for argument in job.arguments:
        if redact(argument) != argument:
            raise UsageError(
                f"the argument {redact(argument)!r} holds credentials, which Ray's dashboard would show; "
                "give them to the cluster's nodes as environment variables"
            )
    secrets = {
        name: value
        for name, value in environment.items()
        if SECRET_NAME.search(name.upper()) and len(value) >= SECRET_LENGTH
    }
    texts = {"the command line": job.entrypoint} | {
        name: content.decode(errors="replace") for name, content in job.files.items()
    }
    for where, shown in texts.items():
        for name, value in secrets.items():
            if value in shown:
                raise UsageError(f"{where} holds the value of {name}; name the variable instead of its value")


def _pairs(arguments: Sequence[str]) -> Iterable[tuple[str, str | None]]:
    """(option, value) if the option's value is a file, (argument, None) for everything else."""
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option not in FILE_OPTIONS:
            yield argument, None
        elif equals:
            yield option, value
        else:
            yield option, next(rest, None)


def _shipped(option: str, value: str | None, files: dict[str, bytes]) -> list[str]:
    if value is None:
        return [option]
    relative = not expanded(value).is_absolute() and ".." not in PurePosixPath(value).parts
    name = str(PurePosixPath(value)) if relative else f"files/{PurePosixPath(value).name}"
    files[name] = _read(value)
    return [option, name]


def _ship_storage(content: bytes, files: dict[str, bytes]) -> None:
    """Add the storage.toml that a configuration names by a relative path; an absolute one is a file of the cluster."""
    try:
        found: dict[str, Any] = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return  # the job itself reports the error
    for table in (found, found.get("label", {})):
        name = table.get("storage") if isinstance(table, dict) else None
        if isinstance(name, str) and not expanded(name).is_absolute() and ".." not in PurePosixPath(name).parts:
            files.setdefault(str(PurePosixPath(name)), _read(name))


def _read(path: str) -> bytes:
    try:
        content = expanded(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(content) > FILE_BYTES:
        raise UsageError(f"{path} has {len(content)} bytes; at most {FILE_BYTES} can be sent with a job")
    return content
