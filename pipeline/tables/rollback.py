"""Publication by hand: the labels of one run, or what an earlier publication showed; both are pinned.

The pin is stored first and is the decision: if the process is killed afterwards, the next publication finishes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import UsageError
from pipeline.storage import Store
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.output import require_run
from pipeline.tables.pins import Pin, make_pin
from pipeline.tables.publications import FIRST, History, Label, Publication, read_history
from pipeline.tables.wanted import latest_wanted, pairs_of, with_parts

SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Labels that are to be published by hand."""

    pin: Pin
    """Not stored yet."""
    changed: int
    """Videos whose published label is another one, or that are not published."""
    stay: tuple[str, ...] = ()
    """Videos that were published later than the publication that is shown again; they keep their labels."""
    missing: tuple[str, ...] = ()
    """Videos whose label is not committed yet, or whose part has expired; they keep their labels."""
    publication: Publication | None = None
    """The one that is shown again."""


def select_run(store: Store, run: str) -> Selected:
    """The committed labels that a run wants.

    Raises:
        UsageError: There is no such run, or none of its labels is committed.
    """
    require_run(store, run)
    wanted = latest_wanted(store, only=[run])
    there = with_parts(store, wanted)
    if not there.num_rows:
        raise UsageError(f"no label of run {run} is committed in {store}; label its manifest first")
    present = _present(store)
    rows = [_row(video_id, key, run, present) for video_id, key in pairs_of(there)]
    missing = set(wanted["video_id"].to_pylist()) - set(there["video_id"].to_pylist())
    return Selected(
        pin=make_pin(store, "run", run, rows), changed=_changed(rows, present), missing=tuple(sorted(missing))
    )


def select_rollback(store: Store, to: str | None = None) -> Selected | None:
    """What an earlier publication showed; None if no label was replaced since the last rollback, which only has to end.

    Videos that were published later stay as they are.

    Args:
        store: the output.
        to: number of a publication, or a run, which means the last publication of its labels; by default what the
            tables showed before the last publication that replaced labels.

    Raises:
        UsageError: There is no such publication, or nothing to go back to.
    """
    history = read_history(store)
    found = _target(store, history, to)
    if found is None:
        return None
    present = _present(store)
    before = history.labels_after(found.number)
    target = present | {video_id: label for video_id, label in before.items() if label and video_id in present}
    stay = sorted(video_id for video_id, label in before.items() if label is None and video_id in present)
    differs = {video_id: label for video_id, label in target.items() if label.label_key != present[video_id].label_key}
    wanted = pa.table(
        {
            "video_id": pa.array(differs, pa.string()),
            "label_key": pa.array([k for k, _ in differs.values()], pa.string()),
        }
    )
    missing = set(differs) - set(with_parts(store, wanted)["video_id"].to_pylist())
    if missing and missing == set(differs):
        shown = ", ".join(map(repr, sorted(missing)[:SHOWN]))
        raise UsageError(
            f"publication {found.number} cannot be shown again: the parts of {shown}"
            f"{' and others' if len(missing) > SHOWN else ''} have expired; label them again with that model"
        )
    rows = [
        _row(video_id, label.label_key, label.run_id, present)
        for video_id, label in target.items()
        if video_id not in missing and video_id not in stay
    ]
    return Selected(
        pin=make_pin(store, "rollback", str(found.number), rows),
        changed=_changed(rows, present),
        stay=tuple(stay),
        missing=tuple(sorted(missing)),
        publication=found,
    )


def _target(store: Store, history: History, to: str | None) -> Publication | None:
    publications = history.publications
    if to is None:
        replacing = [at for at, each in enumerate(publications) if each.replaced or each.returned]
        if not replacing or not replacing[-1]:
            raise UsageError(f"no publication in {store} replaced labels, so there is nothing to go back to")
        last = replacing[-1]
        return None if publications[last].kind == "rollback" else publications[last - 1]
    if to.isdecimal():
        if found := [each for each in publications if each.number == int(to)]:
            return found[0]
        known = ", ".join(str(each.number) for each in publications[-SHOWN:]) or "none"
        raise UsageError(f"{store} has no publication {to}; the last are {known}; jobs.history lists all")
    require_run(store, to)
    for each in reversed(publications):
        if to in each.runs or (each.kind == "run" and each.target == to) or (each.number == FIRST and to in each.shows):
            return each
    raise UsageError(f"no recorded publication published labels of run {to}; jobs.publish {store} --run {to} does")


def _present(store: Store) -> dict[str, Label]:
    table = labelled_videos(store, ["video_id", "label_key", "run_id"])
    columns = (table[name].to_pylist() for name in ("video_id", "label_key", "run_id"))
    return {video_id: Label(key, run) for video_id, key, run in zip(*columns, strict=True)}


def _row(video_id: str, key: str, run: str | None, present: Mapping[str, Label]) -> dict[str, Any]:
    now = present.get(video_id)
    replaced = now.label_key if now and now.label_key != key else None
    return {"video_id": video_id, "label_key": key, "run_id": run, "replaced_key": replaced}


def _changed(rows: list[dict[str, Any]], present: Mapping[str, Label]) -> int:
    return sum(row["replaced_key"] is not None or row["video_id"] not in present for row in rows)
