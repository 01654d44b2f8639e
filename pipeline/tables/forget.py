"""Erases videos from an output: objects, rows, the tables' history and records that name them."""

import html
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.publication import erase_detections, keys_of
from pipeline.storage import Store, video_dir
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import CHECKPOINTS, CORRECTIONS, FAILURES, MARKER, NIGHTS, PARTS, PUBLISH, RUNS, STATES
from pipeline.tables import TABLES, dataset, delete_videos, drop_history, publisher_epoch
from pipeline.tables.history import texts_of, videos_in_history
from pipeline.tables.output import check_output, unfinished_writes

ROOMS = (PARTS, FAILURES, CHECKPOINTS, STATES, CORRECTIONS)
RECORDS = (RUNS, PUBLISH, NIGHTS)


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Where an output holds the videos."""

    objects: tuple[str, ...]
    """Paths of parts, failure records, checkpoints, kept states and corrections."""
    foreign: tuple[str, ...]
    """Paths in the videos' own folders that this package did not write; they are kept."""
    mask_rows: int
    records: tuple[str, ...]
    """Paths of records of runs, nights and publishing that name a video."""
    videos: frozenset[str]
    """The ids of the videos of which the output holds anything, including the tables' history."""


def find_traces(store: Store, video_ids: Collection[str]) -> Traces:
    """All that an output holds of these videos. Writes nothing.

    Raises:
        UsageError: It is not an output, or a newer release made it.
    """
    check_output(store, kind=None)
    objects: list[str] = []
    foreign: list[str] = []
    found: set[str] = set()
    for video_id in sorted(video_ids):
        for path in _below_video(store, video_id):
            (objects if is_ours(path) else foreign).append(path)
            found |= {video_id} if is_ours(path) else set()
    rows = {name: _rows_of(store, name, video_ids) for name in TABLES}
    records = {path: named for path in _records(store) if (named := _named(store, path, video_ids))}
    proven = (_in_values(store, path, named) for path, named in records.items())
    detected = set(video_ids) & keys_of(store).keys() if _is_of_detections(store) else set()
    found = found.union(*rows.values(), *proven, videos_in_history(store, video_ids), detected)
    return Traces(
        objects=tuple(objects),
        foreign=tuple(foreign),
        mask_rows=rows["masks"].total(),
        records=tuple(path for path, named in records.items() if named & found),
        videos=frozenset(found),
    )


def forget(store: Store, video_ids: Collection[str]) -> Traces:
    """Erase these videos; returns what was there: parts, failures, checkpoints, states, corrections, rows, records.

    The tables lose their whole history, so time travel to earlier versions is no longer possible. If the output holds
    nothing of the videos, nothing is changed. Do not run labelling at the same time. Foreign files are kept.

    Raises:
        UsageError: It is not an output, or a newer release made it.
    """
    traces = find_traces(store, video_ids)
    if not traces.videos:
        return traces
    store.delete_many(traces.objects)
    delete_videos(store, sorted(traces.videos))
    with publisher_epoch(store):  # otherwise a running publisher would write rows that it read before
        for path in list(_records(store)):
            _erase(store, path, traces.videos)
        if _is_of_detections(store):
            erase_detections(store, traces.videos)
    store.delete_many(
        [entry.path for entry in unfinished_writes(store)]
    )  # of killed processes; what they hold is not known
    drop_history(store)
    return traces


def _is_of_detections(store: Store) -> bool:
    """Whether it is an output of jobs.detect; another folder may hold a foreign detections.parquet."""
    marker = store.read_or_none(MARKER)
    return marker is not None and json.loads(marker).get("kind") == "detections"


def _below_video(store: Store, video_id: str) -> Iterator[str]:
    for room in ROOMS:
        folder = f"{room}/{video_dir(video_id)}"
        yield from (entry.path for entry in (*store.list(folder), *store.unfinished_writes(folder)))


def _rows_of(store: Store, name: str, video_ids: Collection[str]) -> Counter[str]:
    """Number of rows of a table per video."""
    rows: Counter[str] = Counter()
    if (table := dataset(store, name)) is None:
        return rows

    def count() -> None:
        rows.clear()
        for batch in table.to_batches(columns=["video_id"], filter=pc.field("video_id").isin(list(video_ids))):
            rows.update(batch.column("video_id").to_pylist())

    store.with_retries(count, "read the table", name)
    return rows


def _records(store: Store) -> Iterator[str]:
    return (entry.path for room in RECORDS for entry in store.list(room) if is_ours(entry.path))


def _named(store: Store, path: str, video_ids: Collection[str]) -> set[str]:
    """Which of the videos a record names."""
    if (data := store.read_or_none(path)) is None:
        return set()
    if path.endswith(".parquet"):
        table = read_parquet(data)
        return set(table["video_id"].to_pylist()) & set(video_ids) if "video_id" in table.schema.names else set()
    return {video_id for video_id in video_ids if any(text in data for text in _spellings(video_id))}


def _in_values(store: Store, path: str, video_ids: Collection[str]) -> set[str]:
    """Which of these videos a record has in its values: names of its fields and the text of a page prove nothing."""
    if path.endswith(".parquet"):
        return set(video_ids)
    try:
        values = list(texts_of(json.loads(store.read_or_none(path) or b"null")))
    except ValueError:  # a page
        return set()
    return {
        video_id
        for video_id in video_ids
        if any(video_id == value or repr(video_id) in value or f'"{video_id}"' in value for value in values)
    }


def _erase(store: Store, path: str, video_ids: Collection[str]) -> None:
    """Take the videos out of a record: a table keeps its other rows; progress and reports are deleted as a whole."""
    if not _named(store, path, video_ids):
        return
    if not path.endswith(".parquet"):
        store.delete(path)
    elif (data := store.read_or_none(path)) is not None:
        table = read_parquet(data)
        named = pc.is_in(table["video_id"], value_set=pa.array(list(video_ids), pa.string()))
        store.put(path, to_parquet(table.filter(pc.invert(named))))


def _spellings(video_id: str) -> set[bytes]:
    """The id as reports may write it, in JSON and in HTML, with its delimiters."""
    texts = {json.dumps(video_id), f'"{video_id}"', f">{html.escape(video_id)}<", repr(video_id)}
    return {text.encode() for text in texts}
