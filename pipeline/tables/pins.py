"""Pins: labels that were published by hand, by run or by a rollback, which later runs do not replace silently.

A pinned video follows the runs again once a run with a later name wants its pinned label, or a label of the same model
and parameters other than the one that the pin replaced.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.labels.key import Parameters
from pipeline.storage import Store
from pipeline.storage.names import next_name
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import PUBLISH_PINS, RUNS, pin_path, run_path

PIN_ROWS = pa.schema([(name, pa.string()) for name in ("video_id", "label_key", "run_id", "replaced_key")])
"""run_id: a run with the model and parameters of the label; replaced_key: the label published before, if another."""
_ABOUT = b"sam2-corpus:pin"

Kind = Literal["run", "rollback"]
Settings = tuple[str, str]
"""Digest of the weights, and parameters as in a label key."""
SettingsOf = Callable[[str], Settings | None]
"""Settings of a run by its id; None if they are not recorded."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The labels that one command pinned."""

    name: str
    """Sorts among the names of runs: later runs do not replace its labels."""
    kind: Kind
    target: str
    """The run that was published, or the number of the publication that is shown again."""
    rows: pa.Table
    """PIN_ROWS."""

    def __str__(self) -> str:
        done = f"run {self.target} was published" if self.kind == "run" else f"rollback to publication {self.target}"
        return f"{done} at {self.name[:4]}-{self.name[4:6]}-{self.name[6:8]} {self.name[9:11]}:{self.name[11:13]} UTC"


class Pinned(NamedTuple):
    """The pinned label of one video."""

    label_key: str
    run_id: str | None
    replaced_key: str | None
    pin: Pin

    def accepts(self, label_key: str, settings: Settings | None, settings_of: SettingsOf) -> bool:
        """Whether a later run may replace the pinned label by this one, or wants it itself."""
        if label_key == self.label_key:
            return True
        if label_key == self.replaced_key or settings is None or self.run_id is None:
            return False
        return settings == settings_of(self.run_id)


@dataclass(frozen=True, kw_only=True)
class InForce:
    """The pins that no later run has ended."""

    labels: dict[str, Pinned]
    """By video id."""
    withheld: dict[str, str]
    """Videos for which a later run wants another label, and the last such run."""

    def ended(self, pins: Iterable[Pin]) -> list[Pin]:
        """Those of the pins that no video needs any more."""
        needed = {label.pin.name for label in self.labels.values()}
        return [pin for pin in pins if pin.name not in needed]


def read_pins(store: Store) -> list[Pin]:
    """All pins of an output, the oldest first."""
    found = []
    for path in _paths(store):
        if (data := store.read_or_none(path)) is not None:
            rows = read_parquet(data)
            about = json.loads((rows.schema.metadata or {})[_ABOUT])
            found.append(
                Pin(name=_name(path), kind=about["kind"], target=about["target"], rows=rows.select(PIN_ROWS.names))
            )
    return found


def next_run_name(store: Store) -> str:
    """A name for a run or pin that sorts after all runs and pins so far."""
    return next_name([*store.list_dirs(RUNS), *(_name(path) for path in _paths(store))], datetime.now(UTC))


def make_pin(store: Store, kind: Kind, target: str, rows: Iterable[dict[str, Any]]) -> Pin:
    """A pin whose name sorts after all runs and pins so far; it is not stored."""
    return Pin(
        name=next_run_name(store), kind=kind, target=target, rows=pa.Table.from_pylist(list(rows), schema=PIN_ROWS)
    )


def write_pin(store: Store, pin: Pin) -> None:
    """Store a pin: from now on publications show its labels."""
    about = json.dumps({"kind": pin.kind, "target": pin.target})
    store.commit_once(pin_path(pin.name), to_parquet(pin.rows.replace_schema_metadata({_ABOUT: about})))


def remove_pins(store: Store, pins: Iterable[Pin]) -> None:
    """Let the videos of these pins follow the runs again, from the next publication on."""
    store.delete_many([pin_path(pin.name) for pin in pins])


def pins_in_force(
    pins: Sequence[Pin], runs: Sequence[str], *, wanted_by: Callable[[str], pa.Table | None], settings_of: SettingsOf
) -> InForce:
    """What the pins and the runs since the oldest of them leave pinned.

    Args:
        pins: all pins.
        runs: names of the runs that are taken into account.
        wanted_by: the wanted labels of a run: video_id and label_key.
        settings_of: the settings of a run.
    """
    labels: dict[str, Pinned] = {}
    withheld: dict[str, str] = {}
    if not pins:
        return InForce(labels=labels, withheld=withheld)
    by_name = {pin.name: pin for pin in pins}
    later = [run for run in runs if run > pins[0].name]
    for name in sorted([*by_name, *later]):
        if pin := by_name.get(name):
            columns = (pin.rows[column].to_pylist() for column in PIN_ROWS.names)
            for video_id, key, run, replaced in zip(*columns, strict=True):
                labels[video_id] = Pinned(key, run, replaced, pin)
                withheld.pop(video_id, None)
        elif labels and (wanted := wanted_by(name)) is not None:
            settings = settings_of(name)
            for video_id, key in zip(wanted["video_id"].to_pylist(), wanted["label_key"].to_pylist(), strict=True):
                if (label := labels.get(video_id)) is None:
                    continue
                if label.accepts(key, settings, settings_of):
                    del labels[video_id]
                    withheld.pop(video_id, None)
                else:
                    withheld[video_id] = name
    return InForce(labels=labels, withheld=withheld)


def settings_of_runs(store: Store) -> SettingsOf:
    """Reads the settings of runs from their records, each once."""

    @cache
    def settings(run: str) -> Settings | None:
        try:
            record = json.loads(store.read_or_none(run_path(run)) or b"")
            given = record["configuration"]["parameters"]
            known = {each.name for each in fields(Parameters)}
            parameters = Parameters(**{name: value for name, value in given.items() if name in known})
            return str(record["weights_digest"]), parameters.to_json()
        except (ValueError, KeyError, TypeError, AttributeError, UsageError):
            return None

    return settings


def _paths(store: Store) -> list[str]:
    return sorted(entry.path for entry in store.list(PUBLISH_PINS) if is_ours(entry.path))


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".parquet")
