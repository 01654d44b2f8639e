"""The actions of jobs.publish beside plain publication: previews, publication by hand, and their explanations."""

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict

from jobs.command import counted
from pipeline.storage import Store
from pipeline.storage.paths import CORRECTIONS
from pipeline.tables import Published, drop_state, publish, publish_without_staged
from pipeline.tables.changes import Preview, preview
from pipeline.tables.expiry import EndedRollback, ended_rollbacks, find_expired
from pipeline.tables.pins import read_pins, remove_pins, write_pin
from pipeline.tables.publications import Publication
from pipeline.tables.records import read_models
from pipeline.tables.rollback import Selected, select_rollback, select_run
from pipeline.tables.wanted import in_force, staged_runs

SHOWN = 20


def show_preview(store: Store, given: argparse.Namespace) -> int:
    """Print what the same command without --dry-run would change; returns the exit code."""
    selected = _select(store, given)
    without = staged_runs(store) if given.run or given.rollback or given.unpin else ()
    found = preview(store, pin=selected.pin if selected else None, without=without, unpinned=given.unpin)
    if given.json:
        for change in found.changes:
            print(json.dumps(asdict(change)))
        return 0
    if selected:
        _show_selected(selected)
    _show_changes(found, store)
    if given.expire_parts is not None:
        expired = find_expired(store, older_than_s=given.expire_parts, now=time.time())
        print(f"--expire-parts would delete {counted(len(expired), 'part')}")
        show_ended(ended_rollbacks(store, expired))
    return 0


def publish_selected(store: Store, given: argparse.Namespace) -> tuple[Published, int]:
    """Pin the labels of --run or --rollback, and publish them; returns also the number of labels that are missing."""
    selected = _select(store, given)
    if selected and selected.changed:
        write_pin(store, selected.pin)
    done = publish_without_staged(store, wait_s=given.wait)
    if selected:
        _show_selected(selected)
    if selected and selected.changed:
        _show_consequences(store, selected)
    return done, len(selected.missing) if selected else 0


def withheld_line(videos: int) -> str:
    """Says how many videos keep their pinned label."""
    return f"{counted(videos, 'video')} with a pinned label, although a later run wants another one (--unpin)"


def publish_unpinned(store: Store, given: argparse.Namespace) -> Published:
    """Remove all pins, and publish what the last runs want, except staged labels."""
    pins, staged = read_pins(store), staged_runs(store)
    remove_pins(store, pins)
    drop_state(store)  # the next publication compares all runs with the tables
    print(f"removed {counted(len(pins), 'pin')}")
    return publish(store, wait_s=given.wait, without=staged)


def show_ended(ended: list[EndedRollback]) -> None:
    """Print the rollbacks that an expiry of parts ends."""
    for each in ended:
        print(f"ends the rollback to {_named(each.publication)}: {counted(each.videos, 'video')} could not go back")


def _select(store: Store, given: argparse.Namespace) -> Selected | None:
    if given.run:
        return select_run(store, given.run)
    if not given.rollback:
        return None
    selected = select_rollback(store, given.to)
    if selected is None:
        print("no label was replaced since the last rollback; --to chooses a publication, jobs.history lists them")
    return selected


def _show_selected(selected: Selected) -> None:
    """Print what was selected, and which videos are left out and why."""
    if selected.publication:
        print(f"rollback to {_named(selected.publication)}: {counted(selected.changed, 'video')} differ")
    else:
        print(f"run {selected.pin.target}: {counted(selected.changed, 'video')} differ from the tables")
    why = "parts have expired" if selected.publication else "not labelled yet"
    for ids, reason in ((selected.stay, "published later"), (selected.missing, why)):
        if ids:
            names = ", ".join(map(repr, ids[:SHOWN])) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
            print(f"{counted(len(ids), 'video')} unchanged ({reason}): {names}")


def _show_consequences(store: Store, selected: Selected) -> None:
    """Print what stays, and what the next run does."""
    corrections = sum(1 for _ in store.list(CORRECTIONS))
    kept = "the parts of the labels that were replaced stay" + (
        "" if not corrections else f", and {counted(corrections, 'correction')} (jobs.review list)"
    )
    print(f"{kept}; no label is lost")
    runs = sorted({run for run in selected.pin.rows["run_id"].to_pylist() if run})
    models = sorted({model for model in read_models(store, runs).values() if model})
    print(
        f"the labels are pinned: a run with {' or '.join(models) or 'their model'} and the same parameters "
        "goes on with them; a run with other settings publishes new videos, and leaves the pinned ones as they are, "
        f"until python -m jobs.publish {store} --unpin"
    )


def _show_changes(found: Preview, store: Store) -> None:
    verbs = {"appears": "appear", "changes": "change", "goes back": "go back"}
    if not found.changes:
        print(f"nothing would change in {store}")
    groups = Counter((change.kind, change.why, change.run_id, change.before_run_id) for change in found.changes)
    for (kind, why, run, before), number in groups.items():
        replaced = f" instead of run {before}" if before else ""
        print(f"{number:8} would {verbs[kind]}: {why} (run {run}{replaced})")
    for change in found.changes[:SHOWN]:
        print(f"  {change.kind:9}  {change.video_id!r}: {change.why}")
    if len(found.changes) > SHOWN:
        print(f"  ... and {len(found.changes) - SHOWN} more; --json has all")
    if found.waiting:
        print(f"{counted(found.waiting, 'video')} without the wanted label yet; earlier labels, if any, stay")
    if found.withheld:
        print(withheld_line(found.withheld))
    for part in found.unreadable:
        print(f"part left out: {part}")
    if pins := {str(label.pin) for label in in_force(store).labels.values()}:
        print("pinned: " + "; ".join(sorted(pins)))


def _named(publication: Publication) -> str:
    at = f" of {publication.at[:16].replace('T', ' ')} UTC" if publication.at else ""
    return f"publication {publication.number}{at}"
