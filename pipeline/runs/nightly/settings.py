"""nightly.toml: the settings of every night."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.errors import UsageError
from pipeline.runs.config import RunConfig
from pipeline.runs.nightly.clock import zone_of
from pipeline.runs.nightly.retry import CLASSES
from pipeline.runs.values import parse_duration, read_toml

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
    "detect": dict,
    "retry": dict,
    "links": dict,
}
NIGHT_DECIDES = ("manifest", "prompts", "output", "config", "dry_run", "stop_at", "detect", "detector")
"""Options of `jobs.label` that the table [label] may not hold."""
OF_DETECTION = {"classes": "detect", "model": "detector", "at": "at", "threshold": "threshold"}
"""Names of the table [detect], which comes before labelling, and those of the options of `jobs.label`."""


@dataclass(frozen=True, kw_only=True)
class NightSettings:
    """Settings of all nights of one output.

    Raises:
        UsageError: A value is not allowed; the message names the setting, the value and what is allowed.
    """

    manifests: tuple[str, ...]
    """Patterns of manifest URIs: * and ? stay within one folder, ** goes below."""
    run: RunConfig
    """Configuration of labelling; its manifest is only a label."""
    timezone: str = "UTC"
    stop_at: str | None = None
    """Time of day at which labelling stops."""
    budget_gpu_hours: float | None = None
    """GPU hours per night, all its attempts together."""
    price_per_gpu_hour: float | None = None
    """Of GPU hours alone; hours of actors without a GPU are priced by `run.price_per_hour`."""
    currency: str = "USD"
    compare_nights: int = 14
    """Number of earlier nights on the page."""
    optimize_after: int = 24
    """Number of small or overlapping files of the masks table that makes a night optimize the tables."""
    retry: Mapping[str, str] = field(default_factory=dict)
    """Age at which failures are retried, by failure class. Other classes wait for `jobs.retry`."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses that the page links to, by name: a report's site, the bucket's console."""

    def __post_init__(self) -> None:
        for name in ("budget_gpu_hours", "price_per_gpu_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value!r}; allowed is 0 or more")
        if not 0 <= self.compare_nights <= 400:
            raise UsageError(f"compare_nights is {self.compare_nights!r}; allowed are 0 to 400")
        if self.optimize_after < 2:
            raise UsageError(f"optimize_after is {self.optimize_after!r}; allowed is 2 or more")
        for name, address in self.links.items():
            if not str(address).startswith(("https://", "http://")):
                raise UsageError(
                    f"[links] {name} is {address!r}; allowed are texts that begin with https:// or http://"
                )
        zone_of(self.timezone)
        self.retry_after_s()
        if unknown := sorted(set(self.retry) - CLASSES):
            raise UsageError(f"[retry] {unknown[0]!r} is no failure class; allowed are {', '.join(sorted(CLASSES))}")

    def price(self, *, gpus: bool) -> float | None:
        """Price of an hour of a GPU, or of an actor without one; None if it is not set."""
        return self.price_per_gpu_hour if gpus and self.price_per_gpu_hour is not None else self.run.price_per_hour

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of stop_at and of the nights' names."""
        return zone_of(self.timezone)

    def retry_after_s(self) -> dict[str, float]:
        """Age in seconds at which failures are retried, by failure class."""
        return {name: parse_duration(age) for name, age in self.retry.items()}


def read_settings(path: str, *, run_config: Callable[[Mapping[str, Any]], RunConfig]) -> NightSettings:
    """The settings in a TOML file.

    Args:
        path: the file.
        run_config: makes a run's configuration from options of `jobs.label`: those of the table [label], and output.

    Raises:
        UsageError: The file cannot be read, or holds a name or value that is not allowed.
    """
    found = read_toml(path)
    try:
        values = _checked({name.replace("-", "_"): value for name, value in found.items()})
        label, output = values.pop("label"), values.pop("output")
        manifests = tuple(values.pop("manifests"))
        if not manifests:
            raise UsageError("manifests is empty; give at least one pattern")
        for name in label:
            if name.replace("-", "_") in NIGHT_DECIDES:
                raise UsageError(f"[label] {name} is not allowed; the nightly sets it")
        label |= _of_detection(values.pop("detect", {}))
        run = run_config({**label, "output": output, "manifest": ", ".join(manifests)})
        return NightSettings(manifests=manifests, run=run, **values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _of_detection(table: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `jobs.label` for the table [detect]."""
    for name in table:
        if name not in OF_DETECTION:
            raise UsageError(f"[detect] {name!r} is no setting; allowed are {', '.join(sorted(OF_DETECTION))}")
    if table and (missing := [name for name in ("classes", "model") if name not in table]):
        raise UsageError(f"[detect] {missing[0]} is missing; it needs classes and model")
    return {OF_DETECTION[name]: value for name, value in table.items()}


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
