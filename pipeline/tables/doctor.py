"""Checks an output's invariants, and repairs what a crash can leave.

The invariants: the tables hold each video once, with the same labels in all three; these are the wanted labels if they
are committed; every part is readable; finished videos have no checkpoints or failure records; kept states have a part.
Labels of runs with `--no-publish` are staged, which is no error.
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels.failures import read_failures
from pipeline.storage import MissingError, Store, parse_path, part_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import CHECKPOINTS, PARTS, STATES, states_index_path
from pipeline.tables import TABLES, as_dataset, drop_state, open_tables, publish, wanted_keys
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.output import check_output, unfinished_writes
from pipeline.tables.parts import UnreadablePart, find_part
from pipeline.tables.wanted import pairs_of, staged_runs

log = logging.getLogger(__name__)

READERS = 32
ABANDONED_S = 86_400.0
"""Age from which an unfinished write counts as abandoned."""

Kind = Literal[
    "duplicate rows",
    "tables disagree",
    "unpublished label",
    "staged label",
    "unreadable part",
    "orphan checkpoint",
    "orphan state",
    "obsolete failure",
    "unfinished write",
]


@dataclass(frozen=True)
class Finding:
    """A fault of an output, or a notice."""

    kind: Kind
    what: str
    """The video or path, and its fault."""
    repaired: bool = False

    @property
    def is_wrong(self) -> bool:
        """Whether this needs repair; staged labels do not."""
        return self.kind != "staged label" and not self.repaired


def examine(store: Store, *, repair: bool = False) -> list[Finding]:
    """All faults of an output, and the staged labels; with `repair`, repairs those that it can without loss.

    Tables are read as of one moment, so a publication at the same time is no finding. Repair publishes labels that a
    run should have published and finishes interrupted publications, but publishes no staged label. It deletes damaged
    parts (the next run labels their videos again), orphaned checkpoints and states, obsolete failures and abandoned
    writes. Do not repair while a run is labelling.

    Raises:
        UsageError: It is not an output, or a newer release made it.
    """
    check_output(store)
    parts = _parts(store)
    findings = list(_damaged(store, parts, repair))
    broken = {finding.what for finding in findings}
    labelled = _labelled(store)
    findings += _unpublished(store, labelled, parts - _named(broken, parts), repair)
    findings += _disagreeing(store)
    finished = parts | set(labelled.items())
    findings += _left_over(store, finished, repair)
    findings += _orphan_states(store, parts, repair)
    return findings


def _parts(store: Store) -> set[tuple[str, str]]:
    entries = (entry for shard in store.list_sharded(PARTS) for entry in shard if is_ours(entry.path))
    return {pair for entry in entries if (pair := parse_path(entry.path))}


def _named(names: set[str], parts: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {pair for pair in parts if _name(pair) in names}


def _name(pair: tuple[str, str]) -> str:
    return f"{pair[0]!r}, label key {pair[1]}"


def _damaged(store: Store, parts: set[tuple[str, str]], repair: bool) -> Iterator[Finding]:
    """Parts whose footer is damaged. Unreachable storage raises: it is no reason to delete a part."""
    with ThreadPoolExecutor(READERS) as threads:
        for pair, damaged in zip(parts, threads.map(partial(_is_damaged, store), parts), strict=True):
            if damaged:
                if repair:
                    store.delete(part_path(*pair))
                yield Finding("unreadable part", _name(pair), repaired=repair)


def _is_damaged(store: Store, pair: tuple[str, str]) -> bool:
    try:
        return isinstance(find_part(store, *pair), UnreadablePart)
    except MissingError:  # expired since it was listed
        return False


def _unpublished(store: Store, labelled: dict[str, str], parts: set[tuple[str, str]], repair: bool) -> list[Finding]:
    """Wanted labels that are committed but not in the tables: unpublished ones, and staged ones."""
    staged_by = staged_runs(store)

    def unpublished(wanted: pa.Table) -> list[tuple[str, str]]:
        return [pair for pair in pairs_of(wanted) if labelled.get(pair[0]) != pair[1] and pair in parts]

    staged = wanted_keys(store)
    staged = staged.filter(pc.is_in(staged["run_id"], value_set=pa.array(sorted(staged_by), pa.string())))
    findings = [Finding("staged label", _name(pair)) for pair in unpublished(staged)]
    waiting = unpublished(wanted_keys(store, without=staged_by))
    if repair:
        if waiting:
            drop_state(store)
        publish(store, without=staged_by)
        labelled = _labelled(store)
    return findings + [
        Finding("unpublished label", _name(pair), repaired=labelled.get(pair[0]) == pair[1]) for pair in waiting
    ]


def _disagreeing(store: Store) -> Iterator[Finding]:
    """Videos that are in a table more than once, or not with the same labels in all three."""
    tables = open_tables(store)
    if len(tables) < len(TABLES):
        return
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, as_dataset(store, name, table))
        repeated = """
            SELECT video_id, 'videos' AS name FROM videos GROUP BY video_id HAVING count(*) > 1
            UNION ALL
            SELECT DISTINCT video_id, 'masklets' FROM masklets GROUP BY video_id, object_id HAVING count(*) > 1
        """
        for video_id, name in connection.sql(repeated).fetchall():
            yield Finding("duplicate rows", f"{video_id!r} is in {name} more than once")
        disagreeing = """
            WITH rows AS (
                SELECT video_id, count(*) AS n, count(DISTINCT label_key) AS keys, any_value(label_key) AS key,
                       count(DISTINCT hash(object_id, frame_index)) AS places
                FROM masks GROUP BY video_id
            ), objects AS (
                SELECT video_id, count(*) AS n, count(DISTINCT label_key) AS keys, any_value(label_key) AS key
                FROM masklets GROUP BY video_id
            )
            SELECT video_id, videos.mask_rows, rows.n, rows.places, videos.objects, objects.n
            FROM videos FULL JOIN rows USING (video_id) FULL JOIN objects USING (video_id)
            WHERE videos.mask_rows IS DISTINCT FROM rows.n OR rows.places IS DISTINCT FROM rows.n
               OR videos.objects IS DISTINCT FROM objects.n OR rows.keys <> 1 OR objects.keys <> 1
               OR rows.key IS DISTINCT FROM videos.label_key OR objects.key IS DISTINCT FROM videos.label_key
        """
        for video_id, says, rows, places, objects, masklets in connection.sql(disagreeing).fetchall():
            yield Finding(
                "tables disagree",
                f"{video_id!r}: videos says {says} mask rows and {objects} objects; masks has {rows} rows of {places} "
                f"places, masklets {masklets} objects, or their label keys differ",
            )


def _left_over(store: Store, finished: set[tuple[str, str]], repair: bool) -> list[Finding]:
    """Checkpoints and failure records of labelled videos, and unfinished writes of killed processes."""
    findings = []
    orphans: dict[tuple[str, str], list[str]] = {}
    for shard in store.list_sharded(CHECKPOINTS):
        for entry in shard:
            if is_ours(entry.path) and (pair := parse_path(entry.path)) in finished and pair:
                orphans.setdefault(pair, []).append(entry.path)
    for pair, paths in orphans.items():
        if repair:
            store.delete_many(paths)
        findings.append(Finding("orphan checkpoint", _name(pair), repaired=repair))
    for failure in read_failures(store):
        if (failure.video_id, failure.label_key) in finished:
            if repair:
                store.delete(failure.path)
            findings.append(Finding("obsolete failure", _name((failure.video_id, failure.label_key)), repaired=repair))
    latest = time.time() - ABANDONED_S
    for entry in unfinished_writes(store):
        if entry.mtime >= latest:
            continue
        if repair:
            store.delete(entry.path)
        findings.append(Finding("unfinished write", entry.path, repaired=repair))
    return findings


def _orphan_states(store: Store, parts: set[tuple[str, str]], repair: bool) -> Iterator[Finding]:
    """Kept states that are of no use, without their part or an index; those of unfinished videos are left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for shard in store.list_sharded(STATES):
        for entry in shard:
            if is_ours(entry.path) and (pair := parse_path(entry.path)):
                found.setdefault(pair, []).append(entry.path)
    unfinished = {parse_path(entry.path) for entry in store.list(CHECKPOINTS)} if found else set()
    for pair, paths in found.items():
        if pair in unfinished or (pair in parts and states_index_path(*pair) in paths):
            continue
        if repair:
            store.delete_many(paths)
        yield Finding("orphan state", _name(pair), repaired=repair)


def _labelled(store: Store) -> dict[str, str]:
    return dict(pairs_of(labelled_videos(store, columns=("video_id", "label_key"))))
