"""Keeping the tables fast and small: sorted files of a good size, no forgotten versions, no parts nobody needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import Store, parse_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import PARTS
from pipeline.tables.delta import (
    TABLES,
    TARGET_FILE_BYTES,
    commit,
    dataset,
    newest_turn,
    open_table,
    replace_videos,
    schema_of,
    text_literal,
)  # fmt: skip
from pipeline.tables.files import files_of, highest, stretches
from pipeline.tables.intents import read_intents
from pipeline.tables.snapshot import next_batch
from pipeline.tables.sorting import sorted_rows
from pipeline.tables.turn import WAIT_S, fenced_turn, take_turn
from pipeline.tables.wanted import wanted_keys


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What was done to one table."""

    table: str
    files_before: int
    files_after: int
    bytes_rewritten: int
    bytes_left: int = 0
    """Of files that are worth a rewrite, but beyond the limit that was given."""


def optimize(
    store: Store,
    *,
    target_bytes: int = TARGET_FILE_BYTES,
    most_bytes: float = math.inf,
    wait_s: float = WAIT_S,
) -> list[Upkeep]:
    """Rewrite what is disordered, overlapping or small into sorted files near `target_bytes`; leave the rest alone.

    A lookup of one video then reads one file (two where it lies at an end), and of it one row group or a few.
    Files that overlap are rewritten together or, where they hold more than is left of `most_bytes`, not at all.
    """
    done, budget = [], most_bytes
    with take_turn(store, above=newest_turn(store), wait_s=wait_s) as turn:
        for name in TABLES:
            if (table := open_table(store, name)) is None:
                continue
            before, written, left = files_of(table), 0, 0
            for stretch in stretches(store, name, before, target_bytes):
                size = sum(file.size for file in stretch)
                if size > budget:
                    left += size
                    continue
                budget -= size
                low, high = min(file.low for file in stretch), highest(stretch)
                table, rows = open_table(store, name), dataset(store, name)  # delta-rs cannot open one while it writes
                assert table is not None
                assert rows is not None
                written += commit(
                    store,
                    name,
                    partial(sorted_rows, rows, low, high),
                    predicate=_between(low, high),
                    schema=schema_of(table),
                    turn=turn,
                    pinned=table,
                )
            after = open_table(store, name)
            assert after is not None
            counts = {"files_before": len(before), "files_after": len(files_of(after))}
            done.append(Upkeep(table=name, **counts, bytes_rewritten=written, bytes_left=left))
    return done


def expire_parts(store: Store, *, older_than_s: float, now: float, wait_s: float = WAIT_S) -> int:
    """Delete parts that were published, or that nobody wants any more, longer ago than this; returns how many.

    Going back to earlier parameters then computes again what has expired.
    """
    cutoff = now - older_than_s
    with take_turn(store, above=newest_turn(store), wait_s=wait_s):
        published = _publication_times(store)
        wanted_table = wanted_keys(store)
        wanted = dict(zip(wanted_table["video_id"].to_pylist(), wanted_table["label_key"].to_pylist(), strict=True))
        unsettled = {video_id for intent in read_intents(store).values() for video_id in intent}
        doomed = []
        for shard in store.list_sharded(PARTS):
            for entry in shard:
                if not is_ours(entry.path) or not (pair := parse_path(entry.path)) or entry.mtime >= cutoff:
                    continue
                if pair[0] in unsettled:
                    continue
                since = published.get(pair)
                superseded = since is None and wanted.get(pair[0], pair[1]) != pair[1]
                if superseded or (since is not None and since < cutoff):
                    doomed.append(entry.path)
        store.delete_many(doomed)
    return len(doomed)


def delete_videos(store: Store, video_ids: Sequence[str], *, wait_s: float = WAIT_S) -> int:
    """Delete these videos' rows from all tables; returns how many mask rows. Old versions keep them until `vacuum`."""
    if not video_ids:
        return 0
    rows = 0
    if (masks := dataset(store, "masks")) is not None:
        count = partial(masks.count_rows, filter=pc.field("video_id").isin(video_ids))
        rows = store.attempt(count, "read the table", "masks")
    with fenced_turn(store, wait_s=wait_s) as turn:
        batch = next_batch(store)
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                nothing = schema_of(table).empty_table()
                replace_videos(
                    store, name, video_ids, partial(iter, [nothing]), schema=nothing.schema, turn=turn, batch=batch
                )
    return rows


def _between(low: str, high: str | None) -> str:
    return f"video_id >= {text_literal(low)}" + (f" AND video_id <= {text_literal(high)}" if high is not None else "")


def _publication_times(store: Store) -> dict[tuple[str, str], float]:
    if (videos := dataset(store, "videos")) is None:
        return {}
    rows = videos.to_table(columns=["video_id", "label_key", "published_at"])
    seconds = pc.divide(pc.cast(rows["published_at"], pa.int64()).cast(pa.float64()), 1e6).to_pylist()
    pairs = zip(rows["video_id"].to_pylist(), rows["label_key"].to_pylist(), strict=True)
    return {pair: second for pair, second in zip(pairs, seconds, strict=True) if second is not None}
