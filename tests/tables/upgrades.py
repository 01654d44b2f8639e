"""Corpora that are upgraded to another model: runs with settings, publication by hand, and what the tables showed."""

import json

from pipeline.storage import Store
from pipeline.storage.paths import run_path
from pipeline.tables import publish_without_staged
from pipeline.tables.pins import next_run_name, write_pin
from pipeline.tables.publications import read_history
from pipeline.tables.rollback import select_rollback, select_run
from tests.tables.corpora import commit, key, want

OLD = {"a": key("old a"), "b": key("old b")}
NEW = {"a": key("new a"), "b": key("new b")}


def run(store: Store, keys: dict[str, str], *, model: str, published: bool = True) -> str:
    """Record a run that wants these labels, and commit them; returns its name."""
    name = next_run_name(store)
    for video_id, label_key in keys.items():
        commit(store, video_id, label_key, run_id=name, weights_digest=model)
    want(store, name, keys)
    record = {"weights_digest": model, "configuration": {"publish": published, "parameters": {}, "model": model}}
    store.put(run_path(name), json.dumps(record).encode())
    return name


def runs_of(store: Store) -> list[str]:
    return list(store.list_dirs("runs"))


def publish_run(store: Store, name: str) -> None:
    write_pin(store, select_run(store, name).pin)
    publish_without_staged(store)


def roll_back(store: Store, to: str | None = None) -> None:
    selected = select_rollback(store, to)
    assert selected
    write_pin(store, selected.pin)
    publish_without_staged(store)


def shown(store: Store) -> list[tuple[str, dict[str, int]]]:
    return [(each.kind, dict(each.shows)) for each in read_history(store).publications]
