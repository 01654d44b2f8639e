"""Publication: writes labels that are wanted, committed and not yet in the tables to them, batch by batch."""

import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StorageError
from pipeline.labels import MASKLETS, MASKS, VIDEOS
from pipeline.storage import Store
from pipeline.tables.commit_metadata import SupersededError, refuse_if_superseded
from pipeline.tables.commits import newest_epoch, replace_videos
from pipeline.tables.delta import create_table, open_table, published_keys, schema_of
from pipeline.tables.epoch import WAIT_S, publisher_epoch
from pipeline.tables.extras import videos_rows
from pipeline.tables.intents import read_intents, write_intent
from pipeline.tables.output import check_output
from pipeline.tables.parts import FoundPart, MaskStream, UnreadablePart, find_part_or_reason
from pipeline.tables.pins import remove_pins
from pipeline.tables.publications import record_publication
from pipeline.tables.snapshot import next_batch
from pipeline.tables.wanted import (
    different_from,
    has_news,
    pairs_of,
    read_outstanding,
    staged_runs,
    wanted_keys,
    with_parts,
    write_state,
)

log = logging.getLogger(__name__)

BATCH_VIDEOS = 2_000
BATCH_ROWS = 20_000_000
"""Limits of one batch. Large batches rewrite less: each replacement of scattered videos rewrites most files."""
FOOTERS_AT_ONCE = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """Result of one publication."""

    videos: int = 0
    batches: int = 0
    mask_rows: int = 0
    bytes_written: int = 0
    """Of the new files of all three tables: new rows, and old rows of the files that were rewritten."""
    withheld: int = 0
    """Videos that keep a pinned label although a later run wants another one; 0 if there was nothing to publish."""
    waiting: int = 0
    """Videos whose wanted label is not committed yet; they keep the old label."""
    unreadable: tuple[UnreadablePart, ...] = ()
    """Parts that are damaged or could not be read this time; their videos keep the old label."""
    seconds: float = 0.0


def publish(
    store: Store,
    *,
    wait_s: float = WAIT_S,
    without: Collection[str] = (),
    after_table: Callable[[str], None] = lambda _: None,
) -> Published:
    """Update the tables to the labels that the runs want, if these are committed.

    Safe to repeat, to interrupt and to run beside labelling.

    Args:
        store: the output.
        wait_s: seconds that a second publisher waits for the first.
        without: runs whose labels are not published this time.
        after_table: called with the name of each table after its commit.

    Raises:
        UsageError: It is not an output, or a newer release made it.
        StorageError: The output cannot be read or written, or another publisher is running for too long.
    """
    started = time.perf_counter()
    check_output(store)
    waiting = has_news(store, without=without)
    if waiting is not None and not read_intents(store):
        return Published(waiting=waiting, seconds=time.perf_counter() - started)
    with publisher_epoch(store, wait_s=wait_s) as epoch:
        done = _publish(store, epoch, without, after_table)
    return dataclasses.replace(done, seconds=time.perf_counter() - started)


def publish_without_staged(store: Store, *, wait_s: float = WAIT_S) -> Published:
    """As `publish`, without the labels of runs with `--no-publish`, which only `jobs.publish` publishes."""
    return publish(store, wait_s=wait_s, without=staged_runs(store))


def _publish(store: Store, epoch: int, without: Collection[str], after_table: Callable[[str], None]) -> Published:
    interrupted = read_intents(store)
    outstanding, published = read_outstanding(store, without=without), published_keys(store)
    wanted = different_from(outstanding.wanted, published)
    redo = _redo(store, interrupted, without)
    ready = [pair for pair in pairs_of(with_parts(store, wanted)) if pair[0] not in redo]
    videos = open_table(store, "videos")
    record_publication(
        store,
        epoch,
        redo | dict(ready),
        wanted=outstanding.wanted,
        published=published,
        pins=outstanding.pins,
        version=videos.version() if videos else None,
    )
    done: set[tuple[str, str]] = set()
    unreadable: list[UnreadablePart] = []
    rows = written = batches = 0
    # Interrupted videos are first: a later batch would make their unfinished batch visible in part.
    for batch in chain(_batches(store, sorted(redo.items()), unreadable), _batches(store, sorted(ready), unreadable)):
        written_parts, size = _publish_batch(store, batch, epoch, unreadable, after_table)
        done.update((part.video_id, part.label_key) for part in written_parts)
        rows += sum(part.header.rows for part in written_parts)
        written, batches = written + size, batches + bool(written_parts)
    refuse_if_superseded(newest_epoch(store), epoch, store)  # later steps would overwrite its state
    if unresolved := [(video_id, key) for video_id, key in redo.items() if (video_id, key) not in done]:
        write_intent(store, unresolved)
    store.delete_many(interrupted)
    left = wanted.filter(pa.array([pair not in done for pair in pairs_of(wanted)], pa.bool_()))
    write_state(store, left, outstanding.consumed)
    remove_pins(store, outstanding.ended)
    for part in unreadable:
        log.error("not published: %s", part)
    return Published(
        videos=len(done),
        batches=batches,
        mask_rows=rows,
        withheld=outstanding.withheld,
        bytes_written=written,
        waiting=left.num_rows - len(unreadable),
        unreadable=tuple(unreadable),
    )


def _publish_batch(
    store: Store,
    batch: list[FoundPart],
    epoch: int,
    unreadable: list[UnreadablePart],
    after_table: Callable[[str], None],
) -> tuple[list[FoundPart], int]:
    """Write one batch to the three tables, without unreadable parts; returns the batch and the bytes written."""
    write = partial(replace_videos, store, epoch=epoch, batch=next_batch(store))
    while batch:
        intent = write_intent(store, [(part.video_id, part.label_key) for part in batch])
        ids = [part.video_id for part in batch]
        masks = MaskStream(store, batch)
        try:
            written = write("masks", ids, masks, schema=MASKS)
        except StorageError as error:
            if masks.broken or isinstance(error, SupersededError):
                store.delete(intent)  # nothing of the refused commit is in a table
            if masks.broken is None:
                raise
            unreadable.append(masks.broken)
            batch = [part for part in batch if part.video_id != masks.broken.video_id]
            continue
        after_table("masks")
        masklets = pa.concat_tables([part.header.masklets for part in batch], promote_options="default")
        written += write("masklets", ids, _whole(masklets), schema=MASKLETS)
        after_table("masklets")
        videos = _stamped(videos_rows([part.header.video for part in batch], schema_of(create_table(store, "videos"))))
        written += write("videos", ids, _whole(videos), schema=videos.schema)
        after_table("videos")
        store.delete(intent)
        log.info("published %d %s", len(batch), "video" if len(batch) == 1 else "videos")
        return batch, written
    return [], 0


def _redo(store: Store, interrupted: dict[str, dict[str, str]], without: Collection[str]) -> dict[str, str]:
    """Videos on which the tables may disagree after an interruption, and the label key to publish for each.

    It is the key that runs want now, if its part is committed, else the key of the interrupted batch.
    """
    redo = {video_id: key for intent in interrupted.values() for video_id, key in intent.items()}
    if redo:
        wanted = wanted_keys(store, without=without)
        newer = wanted.filter(pc.is_in(wanted["video_id"], value_set=pa.array(list(redo))))
        redo |= dict(pairs_of(with_parts(store, newer)))
    return redo


def _batches(store: Store, ready: list[tuple[str, str]], unreadable: list[UnreadablePart]) -> Iterator[list[FoundPart]]:
    batch: list[FoundPart] = []
    rows, pairs = 0, iter(ready)
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as threads:
        while some := list(islice(pairs, 8 * FOOTERS_AT_ONCE)):
            for part in threads.map(partial(find_part_or_reason, store), some):
                if isinstance(part, UnreadablePart):
                    unreadable.append(part)
                    continue
                if batch and (len(batch) == BATCH_VIDEOS or rows + part.header.rows > BATCH_ROWS):
                    yield batch
                    batch, rows = [], 0
                batch.append(part)
                rows += part.header.rows
    if batch:
        yield batch


def _whole(table: pa.Table) -> Callable[[], Iterator[pa.Table]]:
    return lambda: iter([table])


def _stamped(videos: pa.Table) -> pa.Table:
    kind = VIDEOS.field("published_at").type
    at = videos.schema.get_field_index("published_at")
    now = pa.repeat(pa.scalar(datetime.now(UTC), kind), videos.num_rows)
    return videos.set_column(at, VIDEOS.field("published_at"), now)
