"""What a run is asked to do: every option of `jobs.label`, checked before anything is loaded."""

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import UsageError
from pipeline.plan import Parameters

OnBadRow = Literal["fail", "skip"]
OnDamaged = Literal["label", "fail"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One labelling run.

    Raises:
        UsageError: A value is not allowed; the message names the option, the value and what is allowed.
    """

    manifest: str
    output: str
    model: str
    parameters: Parameters = field(default_factory=Parameters)
    prompts: str | None = None
    revision: str | None = None
    device: Device = "auto"
    actors: int | None = None
    """Workers; one per GPU of the cluster when absent, two without GPUs."""
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = None
    """GPUs an actor reserves; 1 when absent, 0 where the device is the CPU."""
    lanes: int | None = None
    """Videos that one actor labels in lock-step; chosen by the device when absent."""
    address: str | None = None
    on_bad_row: OnBadRow = "fail"
    on_damaged: OnDamaged = "label"
    publish: bool = True
    storage: str | None = None
    """storage.toml: endpoints and credentials by URI prefix."""

    def __post_init__(self) -> None:
        for name, choices in (("device", Device), ("on_bad_row", OnBadRow), ("on_damaged", OnDamaged)):
            self._require(name, getattr(self, name) in get_args(choices), f"one of {', '.join(get_args(choices))}")
        self._require("actors", self.actors is None or self.actors >= 1, "1 or more")
        self._require("lanes", self.lanes is None or 1 <= self.lanes <= 256, "1 to 256")
        self._require("cpus_per_actor", self.cpus_per_actor > 0, "a number above 0")
        gpus = self.gpus_per_actor
        self._require("gpus_per_actor", gpus is None or gpus >= 0, "0 or more; a fraction shares a GPU")
        self._require("gpus_per_actor", gpus is None or gpus <= 1 or gpus == int(gpus), "a fraction or a whole number")
        for name in ("manifest", "output", "model"):
            self._require(name, bool(getattr(self, name).strip()), "a path or URI")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)!r}; allowed: {allowed}")

    def to_dict(self) -> dict[str, Any]:
        """As the run's record keeps it; holds no secrets, for none is ever an option."""
        return asdict(self)


def read_config_file(path: str, *, allowed: dict[str, type]) -> dict[str, Any]:
    """Options from a TOML file whose names are those of the command line, with - or _.

    Raises:
        UsageError: The file cannot be read, or holds a name that is no option, or a value of another type.
    """
    try:
        found = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the configuration {path}: {error}") from None
    values = {name.replace("-", "_"): value for name, value in found.items()}
    for name, value in values.items():
        if name not in allowed:
            raise UsageError(f"{path}: {name!r} is no option; allowed are {', '.join(sorted(allowed))}")
        right = isinstance(value, allowed[name]) and not (isinstance(value, bool) and allowed[name] is not bool)
        if not right and not (allowed[name] is float and type(value) is int):
            raise UsageError(f"{path}: {name} is {value!r}; it must be of type {allowed[name].__name__}")
    return values


PARAMETER_NAMES = tuple(f.name for f in fields(Parameters))
"""Options that change masks, and so the label key."""
