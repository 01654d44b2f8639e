"""nightly.toml: what every night is asked to do."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.errors import UsageError
from pipeline.runs.config import RunConfig
from pipeline.runs.nightly.clock import seconds_of, zone_of
from pipeline.runs.nightly.retry import CLASSES

TYPES: dict[str, type] = {
    "manifests": list,
    "output": str,
    "timezone": str,
    "stop_at": str,
    "budget_gpu_hours": float,
    "price_per_gpu_hour": float,
    "currency": str,
    "compare_nights": int,
    "optimize_after": int,
    "label": dict,
    "retry": dict,
}


@dataclass(frozen=True, kw_only=True)
class NightSettings:
    """Settings of all nights of one output.

    Raises:
        UsageError: A value is not allowed; the message names the setting, the value and what is allowed.
    """

    manifests: tuple[str, ...]
    """Patterns of manifest URIs: * and ? stay within one folder, ** goes below."""
    run: RunConfig
    """How videos are labelled; its manifest is only a name here."""
    timezone: str = "UTC"
    stop_at: str | None = None
    """Time of day; nothing is begun after it."""
    budget_gpu_hours: float | None = None
    """Of one night, all its attempts together."""
    price_per_gpu_hour: float | None = None
    currency: str = "USD"
    compare_nights: int = 14
    """So many earlier nights stand in the report."""
    optimize_after: int = 24
    """So many small or overlapping files of the masks table have the tables optimized; each night adds one or two."""
    retry: Mapping[str, str] = field(default_factory=dict)
    """By failure class: how old a failure is when it is tried again. Other classes wait for `jobs.retry`."""

    def __post_init__(self) -> None:
        for name in ("budget_gpu_hours", "price_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value!r}; allowed is 0 or more")
        if not 0 <= self.compare_nights <= 400:
            raise UsageError(f"compare_nights is {self.compare_nights!r}; allowed are 0 to 400")
        if self.optimize_after < 2:
            raise UsageError(f"optimize_after is {self.optimize_after!r}; allowed is 2 or more")
        zone_of(self.timezone)
        self.retry_after_s()
        if unknown := sorted(set(self.retry) - CLASSES):
            raise UsageError(f"[retry] {unknown[0]!r} is no failure class; allowed are {', '.join(sorted(CLASSES))}")

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of stop_at and of the nights' names."""
        return zone_of(self.timezone)

    def retry_after_s(self) -> dict[str, float]:
        """By failure class, the age in seconds at which it is tried again."""
        return {name: seconds_of(age) for name, age in self.retry.items()}


def read_settings(path: str, *, run_config: Callable[[list[str]], RunConfig]) -> NightSettings:
    """The settings in a TOML file.

    Args:
        path: the file.
        run_config: makes a run's configuration from arguments of `jobs.label`, which the table [label] holds.

    Raises:
        UsageError: The file cannot be read, or holds a name or value that is not allowed.
    """
    try:
        found = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    try:
        values = _checked({name.replace("-", "_"): value for name, value in found.items()})
        label, output = values.pop("label"), values.pop("output")
        manifests = tuple(values.pop("manifests"))
        if not manifests:
            raise UsageError("manifests is empty; give at least one pattern")
        given = [*label_arguments(label), "--output", output, "--manifest", ", ".join(manifests)]
        return NightSettings(manifests=manifests, run=run_config(given), **values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def label_arguments(table: Mapping[str, Any]) -> list[str]:
    """The table [label] as arguments of `jobs.label`: true is a flag, a list repeats its option."""
    arguments = []
    for name, value in table.items():
        if name.replace("-", "_") in ("manifest", "prompts", "output", "config", "dry_run", "stop_at"):
            raise UsageError(f"[label] {name} is not allowed; the night decides it")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                raise UsageError(f"[label] {name} is a table; allowed are strings, numbers and true")
            option = f"--{name.replace('_', '-')}"
            arguments += [option] if each is True else [] if each is False else [f"{option}={each}"]
    return arguments


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    if isinstance(values.get("manifests"), str):
        values["manifests"] = [values["manifests"]]
    for name, value in values.items():
        if name not in TYPES:
            raise UsageError(f"{name!r} is no setting; allowed are {', '.join(sorted(TYPES))}")
        if type(value) is not TYPES[name] and not (TYPES[name] is float and type(value) is int):
            raise UsageError(f"{name} is {value!r}; it must be of type {TYPES[name].__name__}")
    for where, texts in (("manifests", values.get("manifests", [])), ("[retry]", values.get("retry", {}).values())):
        if bad := [text for text in texts if not isinstance(text, str)]:
            raise UsageError(f'{where} has {bad[0]!r}; it must be a text in quotes, as "7d"')
    if missing := [name for name in ("manifests", "output", "label") if name not in values]:
        raise UsageError(f"{', '.join(missing)} missing")
    return values
