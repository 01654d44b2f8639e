"""What each publication replaced, and from these records what the tables showed after each of them.

A record is written before the first table of its publication, so it may name videos that were not changed when the
publication was interrupted. Walking back from the present labels, such videos stay what they were.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage import Store
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import PUBLISH_HISTORY, publication_path
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.pins import Pin

CHANGES = pa.schema(
    [(name, pa.string()) for name in ("video_id", "label_key", "wanted_by", "before_key", "before_run_id")]
)
"""wanted_by: the run or pin that wants the label; before_key: null for a video that the tables did not show."""
READERS = 16
FIRST = 0
"""Number of what the tables showed before publications were recorded."""
UNKNOWN_RUN = "unknown"
_ABOUT = b"sam2-corpus:publication"

Kind = Literal["publish", "run", "rollback", "before records"]


class Label(NamedTuple):
    """A label that the tables showed, and the run that made it."""

    label_key: str
    run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One publication that changed what the tables show."""

    number: int
    at: str | None
    """ISO 8601."""
    kind: Kind
    target: str | None
    """Of a pin: the run, or the number of the publication that is shown again."""
    runs: tuple[str, ...]
    """Runs whose wanted labels it published."""
    new: int
    """Videos that the tables did not show before."""
    replaced: int
    """Videos whose label was replaced by one of a later run, or of the same one."""
    returned: int
    """Videos whose label was replaced by one of an earlier run."""
    shows: Mapping[str, int]
    """Runs that made the labels that the tables showed afterwards, and their numbers of videos."""
    version: int | None
    """The version of the Delta table videos before it."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What an output's tables showed since publications are recorded."""

    publications: tuple[Publication, ...]
    """The oldest first; the first one stands for all before records."""
    present: Mapping[str, Label]
    """The present labels of the videos that any record names."""
    _records: Sequence["_Record"] = field(repr=False)

    def labels_after(self, number: int) -> dict[str, Label | None]:
        """The labels that the tables showed after a publication, of every video that changed since; None: not shown."""
        state: dict[str, Label | None] = {}
        for record in reversed(self._records):
            if record.number > number:
                for row in record.rows.to_pylist():
                    state[row["video_id"]] = _before(row)
        return state


class _Record(NamedTuple):
    number: int
    about: Mapping[str, Any]
    rows: pa.Table


def record_publication(
    store: Store,
    number: int,
    targets: Mapping[str, str],
    *,
    wanted: pa.Table,
    published: pa.Table,
    pins: Iterable[Pin],
    version: int | None,
) -> None:
    """Record what a publication is about to change, if anything.

    Args:
        store: the output.
        number: the publication's epoch.
        targets: the label key to publish for each video.
        wanted: video_id and run_id, the run or pin that wants the label.
        published: video_id, label_key and run_id of what the tables show.
        pins: those that are published for the first time.
        version: the version of the table videos.
    """
    rows = pa.table({"video_id": pa.array(targets, pa.string()), "label_key": pa.array(targets.values(), pa.string())})
    where = pc.index_in(rows["video_id"], value_set=published["video_id"].combine_chunks())
    by = pc.index_in(rows["video_id"], value_set=wanted["video_id"].combine_chunks())
    columns = [wanted["run_id"].take(by), published["label_key"].take(where), published["run_id"].take(where)]
    table = pa.table([*rows.columns, *columns], schema=CHANGES)
    table = table.filter(pc.fill_null(pc.not_equal(table["label_key"], table["before_key"]), True))
    if not table.num_rows:
        return
    pinned = [{"name": pin.name, "kind": pin.kind, "target": pin.target} for pin in pins]
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": sorted(set(table["wanted_by"].unique().drop_null().to_pylist()) - {pin["name"] for pin in pinned}),
        "pins": pinned,
        "version": version,
    }
    store.put(publication_path(number), to_parquet(table.replace_schema_metadata({_ABOUT: json.dumps(about)})))


def read_history(store: Store) -> History:
    """What the tables showed after each recorded publication.

    Raises:
        StorageError: The output cannot be read.
    """
    records = _read_records(store)
    table = labelled_videos(store, ["video_id", "label_key", "run_id"])
    shows: Counter[str] = Counter()
    for row in table["run_id"].value_counts().to_pylist():
        shows[row["values"] or UNKNOWN_RUN] += row["counts"]
    touched = pa.array(
        {video_id for record in records for video_id in record.rows["video_id"].to_pylist()}, pa.string()
    )
    named = table.filter(pc.is_in(table["video_id"], value_set=touched)).to_pylist()
    present = {row["video_id"]: Label(row["label_key"], row["run_id"]) for row in named}
    publications = list(_walk_back(records, present, shows))
    return History(publications=tuple(reversed(publications)), present=present, _records=records)


def published_runs(store: Store) -> set[str]:
    """Runs whose wanted labels any publication has published; reads the records' footers only."""

    def runs(path: str) -> list[str]:
        with store.open(path) as file, pq.ParquetFile(file) as parquet:
            about = json.loads(parquet.schema_arrow.metadata[_ABOUT])
            return [*about["runs"], *(pin["target"] for pin in about["pins"] if pin["kind"] == "run")]

    with ThreadPoolExecutor(READERS) as threads:
        return {run for found in threads.map(runs, _paths(store)) for run in found}


def _walk_back(records: Sequence[_Record], present: Mapping[str, Label], shows: Counter[str]) -> Iterable[Publication]:
    """The publications that changed anything, the newest first, and what was shown before all of them."""
    state = dict(present)
    for record in reversed(records):
        after = {run: count for run, count in shows.most_common() if count}
        changes: Counter[str] = Counter()
        for row in record.rows.to_pylist():
            video_id, before = row["video_id"], _before(row)
            now = state.get(video_id)
            if now is None or now == before:
                continue
            shows[now.run_id or UNKNOWN_RUN] -= 1
            if before is None:
                changes["new"] += 1
                del state[video_id]
            else:
                changes["returned" if is_earlier(now.run_id, before.run_id) else "replaced"] += 1
                shows[before.run_id or UNKNOWN_RUN] += 1
                state[video_id] = before
        if changes.total():
            pin = (record.about["pins"] or [{"kind": "publish", "target": None}])[-1]
            yield Publication(
                number=record.number,
                at=record.about["at"],
                kind=pin["kind"],
                target=pin["target"],
                runs=tuple(record.about["runs"]),
                new=changes["new"],
                replaced=changes["replaced"],
                returned=changes["returned"],
                shows=after,
                version=record.about["version"],
            )
    if first := {run: count for run, count in shows.most_common() if count}:
        yield Publication(
            number=FIRST, at=None, kind="before records", target=None, runs=(), new=0, replaced=0, returned=0,
            shows=first, version=None,
        )  # fmt: skip


def is_earlier(run: str | None, other: str | None) -> bool:
    """Whether a run is earlier than another one; names of runs sort by time."""
    return bool(run and other and run < other)


def _before(row: Mapping[str, Any]) -> Label | None:
    return None if row["before_key"] is None else Label(row["before_key"], row["before_run_id"])


def _paths(store: Store) -> list[str]:
    return sorted(entry.path for entry in store.list(PUBLISH_HISTORY) if is_ours(entry.path))


def _read_records(store: Store) -> list[_Record]:
    paths = _paths(store)
    with ThreadPoolExecutor(READERS) as threads:
        read = {path: data for path, data in zip(paths, threads.map(store.read_or_none, paths), strict=True) if data}
    tables = {int(path.rpartition("/")[2].partition(".")[0]): read_parquet(data) for path, data in read.items()}
    return [_Record(number, json.loads(rows.schema.metadata[_ABOUT]), rows) for number, rows in tables.items()]
