"""What a publication would change, and why. Writes nothing."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels import VIDEOS
from pipeline.labels.reasons import changed_inputs
from pipeline.storage import Store
from pipeline.tables.delta import published_keys
from pipeline.tables.labelled import KEY_COLUMNS, labelled_videos
from pipeline.tables.parts import FoundPart, UnreadablePart, find_part_or_reason
from pipeline.tables.pins import Pin
from pipeline.tables.publications import is_earlier
from pipeline.tables.wanted import different_from, latest_wanted, pairs_of, read_outstanding, with_parts

READERS = 32

Kind = Literal["appears", "changes", "goes back"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One video that a publication would change."""

    video_id: str
    kind: Kind
    """It appears in the tables, changes to a label of a later run, or goes back to one of an earlier run."""
    why: str
    """The inputs of the label key that differ, such as `model changed`, or `new video`."""
    label_key: str
    run_id: str | None
    """The run that made the label."""
    before_key: str | None
    before_run_id: str | None


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a publication would do."""

    changes: tuple[Change, ...]
    """Ordered by kind, reason, run and video."""
    waiting: int
    """Videos whose wanted label is not committed."""
    withheld: int
    """Videos that keep a pinned label although a later run wants another one."""
    unreadable: tuple[str, ...]
    """Parts that are damaged or could not be read."""


def preview(store: Store, *, pin: Pin | None = None, without: Collection[str] = (), unpinned: bool = False) -> Preview:
    """What `publish` would change.

    Args:
        store: the output.
        pin: one that is not stored yet.
        without: runs whose labels are not published.
        unpinned: after the removal of all pins.

    Raises:
        StorageError: The output cannot be read.
    """
    if unpinned:
        wanted, withheld = latest_wanted(store, without=without), 0
    else:
        outstanding = read_outstanding(store, without=without, more=[pin] if pin else [])
        wanted, withheld = outstanding.wanted, outstanding.withheld
    wanted = different_from(wanted, published_keys(store))
    ready = with_parts(store, wanted)
    with ThreadPoolExecutor(READERS) as threads:
        read = list(threads.map(partial(find_part_or_reason, store), pairs_of(ready)))
    parts = [part for part in read if isinstance(part, FoundPart)]
    return Preview(
        changes=tuple(sorted(_changes(store, parts), key=lambda c: (c.kind, c.why, c.run_id or "", c.video_id))),
        waiting=wanted.num_rows - ready.num_rows,
        withheld=withheld,
        unreadable=tuple(str(part) for part in read if isinstance(part, UnreadablePart)),
    )


def _changes(store: Store, parts: Sequence[FoundPart]) -> list[Change]:
    columns = [*KEY_COLUMNS, "run_id"]
    schema = pa.schema([VIDEOS.field(name) for name in columns])
    table = pa.concat_tables(
        [schema.empty_table(), *(part.header.video.select(columns).cast(schema) for part in parts)]
    )
    published = labelled_videos(store, columns)
    where = pc.index_in(table["video_id"], value_set=published["video_id"].combine_chunks()).combine_chunks()
    reasons = changed_inputs(table, published, where).to_pylist()
    rows = zip(
        *(table[name].to_pylist() for name in ("video_id", "label_key", "run_id")),
        *(published[name].take(where).to_pylist() for name in ("label_key", "run_id")),
        reasons,
        strict=True,
    )
    return [
        Change(
            video_id=video_id,
            kind="appears" if before is None else "goes back" if is_earlier(run, before_run) else "changes",
            why=why,
            label_key=key,
            run_id=run,
            before_key=before,
            before_run_id=before_run,
        )
        for video_id, key, run, before, before_run, why in rows
    ]
