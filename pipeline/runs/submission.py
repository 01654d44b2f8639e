"""A job of this project for a Ray cluster: the same work has the same id, and no secret is in what Ray shows of it.

Ray refuses a submission id that was used before, finished or not. So an id is the work and an attempt number, and the
one who submits work that is running already is told so by the list of jobs.
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
"""Options of jobs whose value is a small local file: it travels with the job."""

FILE_BYTES = 2**20
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE_KEY")
SECRET_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Work:
    """One command of this project, and the files that it names."""

    job: str
    arguments: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By their path relative to the job's working folder, which is where `arguments` looks for them."""
    night: str | None = None

    @property
    def entrypoint(self) -> str:
        """The command line that the cluster runs, with the python that is first on its PATH."""
        return shlex.join(["python", "-m", f"jobs.{self.job}", *self.arguments])

    @property
    def name(self) -> str:
        """The same for the same work: the job, its night, and a digest of its command and files."""
        digest = hashlib.sha256(repr((self.job, self.arguments, sorted(self.files.items()))).encode()).hexdigest()
        return "-".join([self.job, *([self.night] if self.night else []), digest[:12]])


@dataclass(frozen=True)
class Decision:
    """What to do with work: follow the submission `id` that is at work on it, or submit it under this new id."""

    id: str
    running: bool


def decide(work: Work, jobs: Mapping[str, bool]) -> Decision:
    """Follow a submission of this work that has not ended, else submit the next attempt.

    Args:
        work: what is to be done.
        jobs: every submission id the cluster knows, and whether that job has ended.
    """
    numbers: dict[int, bool] = {}
    for name, ended in jobs.items():
        head, _, number = name.rpartition("-")
        if head == work.name and number.isdigit():
            numbers[int(number)] = ended
    if running := [number for number, ended in numbers.items() if not ended]:
        return Decision(f"{work.name}-{max(running)}", running=True)
    return Decision(f"{work.name}-{max(numbers, default=0) + 1}", running=False)


def make_work(
    job: str,
    arguments: Sequence[str],
    *,
    night: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Work:
    """A job with the files its arguments name.

    Raises:
        UsageError: A file cannot be read, or a secret would show in the cluster's dashboard.
    """
    files: dict[str, bytes] = {}
    given = [_shipped(option, value, files) for option, value in _pairs(arguments)]
    for content in list(files.values()):
        _ship_storage(content, files)
    if night:
        given.append(["--night", night])
    work = Work(job=job, arguments=tuple(piece for pieces in given for piece in pieces), files=files, night=night)
    refuse_secrets(work, environment=os.environ if environment is None else environment)
    return work


def refuse_secrets(work: Work, *, environment: Mapping[str, str]) -> None:
    """A UsageError when a password, a signed URL or the value of a secret variable is in the work."""
    for argument in work.arguments:
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
    texts = {"the command line": work.entrypoint} | {
        name: content.decode(errors="replace") for name, content in work.files.items()
    }
    for where, shown in texts.items():
        for name, value in secrets.items():
            if value in shown:
                raise UsageError(f"{where} holds the value of {name}; name the variable instead of its value")


def _pairs(arguments: Sequence[str]) -> Iterable[tuple[str, str | None]]:
    """(option, value) where an option names a file, (argument, None) for everything else."""
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
    """The storage.toml that a configuration names, if it is a relative path; an absolute one is the cluster's own."""
    try:
        found: dict[str, Any] = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return  # the job itself says what is wrong with it
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
        raise UsageError(f"{path} has {len(content)} bytes; at most {FILE_BYTES} travel with a job")
    return content
