"""Deletion of the tables' earlier versions."""

import json
import time
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage import MissingError, Store
from pipeline.storage.ownership import is_unfinished_write, log_version
from pipeline.storage.paths import table_log_dir
from pipeline.tables.commits import text_literal
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.epoch import WAIT_S, publisher_epoch
from pipeline.tables.vacuum import unneeded_files, vacuum


def drop_history(store: Store, *, wait_s: float = WAIT_S) -> int:
    """Delete all earlier versions of the tables; returns how many files were deleted. Time travel ends with it.

    A table's log has the ids of deleted videos in its predicates and statistics. A checkpoint holds all that the newest
    version needs, so the entries before it can be deleted. The newest entry, which only has the publisher epoch, is
    kept: delta-rs does not write to a table whose newest version has no log entry.
    """
    removed = vacuum(store, retention_hours=0, wait_s=wait_s)
    with publisher_epoch(store, wait_s=wait_s):
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                store.with_retries(table.create_checkpoint, "checkpoint the table", name)
                past = [
                    path for entry in store.list(table_log_dir(name)) if _is_before(path := entry.path, table.version())
                ]
                store.delete_many(past)
                removed += len(past)
    return removed


def _is_before(path: str, newest: int) -> bool:
    """Whether a file of a table's log belongs to an earlier version, or is unfinished."""
    version = log_version(path)
    return is_unfinished_write(path) or (version is not None and version < newest)


def videos_in_history(store: Store, video_ids: Collection[str]) -> set[str]:
    """Which of these videos earlier versions of the tables name: in rows of data files, or in the log."""
    found: set[str] = set()
    for name in TABLES:
        if (table := open_table(store, name)) is None:
            continue
        for entry in store.list(table_log_dir(name)):
            if log_version(entry.path) is not None and entry.path.endswith(".json"):
                data = store.read_or_none(entry.path) or b""
                named = {video_id for video_id in video_ids if any(text in data for text in _in_log(video_id))}
                found |= _in_actions(data, named) if named else named
        for path in unneeded_files(store, name, table, cutoff=time.time()):
            found |= _ids_of(store, path, video_ids)
    return found


def _in_log(video_id: str) -> tuple[bytes, ...]:
    """The id as a log entry writes it, in the predicate of a commit and in the statistics of a file."""
    spelled = (text_literal(video_id), json.dumps(video_id, ensure_ascii=False))
    return tuple(json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in spelled)


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a JSON value, names of fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_of(each)


def _in_actions(entry: bytes, video_ids: Collection[str]) -> set[str]:
    """Which of these videos a log entry names in a predicate or in the bounds of a file, not as names of columns."""
    texts: set[str] = set()
    predicates = ""
    for action in map(json.loads, entry.splitlines()):
        predicates += str(action.get("commitInfo", {}).get("operationParameters", {}).get("predicate", ""))
        for kind in ("add", "remove"):
            stats = json.loads((action.get(kind) or {}).get("stats") or "{}")
            for bound in ("minValues", "maxValues"):
                texts.update(texts_of(stats.get(bound, {}).get("video_id")))
    return {each for each in video_ids if each in texts or text_literal(each) in predicates}


def _ids_of(store: Store, path: str, video_ids: Collection[str]) -> set[str]:
    wanted, found = pa.array(list(video_ids), pa.string()), set[str]()
    try:
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(columns=["video_id"]):
                ids = batch.column(0)
                found.update(ids.filter(pc.is_in(ids, value_set=wanted)).unique().to_pylist())
    except (MissingError, ValueError, OSError):  # deleted meanwhile, or not finished
        return found
    return found
