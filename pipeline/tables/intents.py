"""Intents: records of batches that are about to be written to the three tables, kept until all three have them."""

import uuid
from collections.abc import Iterable

import pyarrow as pa

from pipeline.storage import Store
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import PUBLISH_INTENTS, intent_path

_SCHEMA = pa.schema([("video_id", pa.string()), ("label_key", pa.string())])


def write_intent(store: Store, targets: Iterable[tuple[str, str]]) -> str:
    """Record (video_id, label_key) of a batch before its first table is written; returns the record's path."""
    path = intent_path(uuid.uuid4().hex)
    rows = [{"video_id": video_id, "label_key": key} for video_id, key in targets]
    store.put(path, to_parquet(pa.Table.from_pylist(rows, schema=_SCHEMA)))
    return path


def read_intents(store: Store) -> dict[str, dict[str, str]]:
    """Records that an interrupted publication left: path to {video_id: label_key}."""
    found: dict[str, dict[str, str]] = {}
    for entry in store.list(PUBLISH_INTENTS):
        if is_ours(entry.path) and (data := store.read_or_none(entry.path)) is not None:
            table = read_parquet(data)
            found[entry.path] = dict(zip(table["video_id"].to_pylist(), table["label_key"].to_pylist(), strict=True))
    return found
