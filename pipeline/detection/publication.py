"""The detections of all videos of an output as one table, sorted by video: detections.parquet.

It is written anew from the old table and the parts whose keys changed, in memory that one video or one row group needs,
and replaces the old table at once.
"""

import heapq
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.detection.part import read_detection_part
from pipeline.detection.table import SCHEMA
from pipeline.storage import MissingError, Store
from pipeline.storage.format_version import FORMAT, check_format
from pipeline.storage.lease import Lease
from pipeline.storage.paths import DETECTIONS_TABLE, PUBLISHER_LEASES, part_path

log = logging.getLogger(__name__)

KEY = "detection_key"
TABLE_SCHEMA = SCHEMA.append(pa.field(KEY, pa.string()))
"""The columns of the table; the key names the part that a row comes from."""
FORMAT_METADATA = b"sam2-corpus:format"
ROW_GROUP_ROWS = 65_536
READERS = 16
WAIT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class PublishedDetections:
    """What the table holds after a publication."""

    videos: int
    """Videos whose rows are new or changed."""
    rows: int
    """Rows of the whole table."""


def publish_detections(store: Store, wanted: Mapping[str, str]) -> PublishedDetections:
    """Bring the table up to date; videos that are not in `wanted` keep their rows.

    Args:
        store: an output of detections.
        wanted: the key of every video whose part is committed.

    Raises:
        StorageError: The output cannot be read or written.
        LeaseHeldError: Another process has been writing the table for half an hour.
    """
    with Lease(store, PUBLISHER_LEASES, who="a publisher of detections", wait_s=WAIT_S):
        held = keys_of(store)
        changed = {video_id: key for video_id, key in wanted.items() if held.get(video_id) != key}
        rows = _rows(store) if not changed and held else _write(store, changed, dropped=changed)
    return PublishedDetections(videos=len(changed), rows=rows)


def erase_detections(store: Store, video_ids: Collection[str]) -> int:
    """Take videos out of the table; returns how many of them it held."""
    found = set(video_ids) & keys_of(store).keys()
    if found:
        _write(store, {}, dropped=found)
    return len(found)


def keys_of(store: Store) -> dict[str, str]:
    """The key of every video in the table."""
    if not store.exists(DETECTIONS_TABLE):
        return {}
    found: dict[str, str] = {}
    with store.open(DETECTIONS_TABLE) as file, pq.ParquetFile(file) as parquet:
        check_format((parquet.metadata.metadata or {}).get(FORMAT_METADATA), what=f"{store}/{DETECTIONS_TABLE}")
        for batch in parquet.iter_batches(ROW_GROUP_ROWS, columns=["video_id", KEY], use_threads=False):
            pairs = pa.Table.from_batches([batch]).group_by(["video_id", KEY]).aggregate([])
            found.update(zip(pairs["video_id"].to_pylist(), pairs[KEY].to_pylist(), strict=True))
    return found


def _rows(store: Store) -> int:
    with store.open(DETECTIONS_TABLE) as file, pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.num_rows)


def _write(store: Store, changed: Mapping[str, str], *, dropped: Collection[str]) -> int:
    """Replace the table by its rows without the dropped videos, and those of the changed ones; returns its rows."""
    rows = 0
    with tempfile.TemporaryDirectory(prefix="sam2-corpus-detections-") as folder:
        path = Path(folder) / DETECTIONS_TABLE
        schema = TABLE_SCHEMA.with_metadata({FORMAT_METADATA: str(FORMAT).encode()})
        settings = {"compression": "zstd", "use_dictionary": ["video_id", KEY, "category"]}
        with pq.ParquetWriter(path, schema, **settings) as writer:
            waiting: list[pa.Table] = []
            merged = heapq.merge(_kept(store, set(dropped)), _new(store, changed), key=lambda found: found[0])
            for _, table in merged:
                waiting.append(table)
                if sum(each.num_rows for each in waiting) >= ROW_GROUP_ROWS:
                    rows += _write_group(writer, waiting)
                    waiting = []
            rows += _write_group(writer, waiting)
        store.put(DETECTIONS_TABLE, path)
    return rows


def _write_group(writer: pq.ParquetWriter, tables: list[pa.Table]) -> int:
    if not tables:
        return 0
    table = pa.concat_tables(tables)
    writer.write_table(table.cast(writer.schema), row_group_size=2 * ROW_GROUP_ROWS)
    return int(table.num_rows)


def _kept(store: Store, dropped: Collection[str]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of the old table, one run of rows a video and batch."""
    if not store.exists(DETECTIONS_TABLE):
        return
    with store.open(DETECTIONS_TABLE) as file, pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROW_GROUP_ROWS, use_threads=False):
            table = pa.Table.from_batches([batch]).replace_schema_metadata(None).select(TABLE_SCHEMA.names)
            runs = pc.run_end_encode(table["video_id"].combine_chunks())
            start = 0
            for video_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                if video_id not in dropped:
                    yield video_id, table.slice(start, end - start)
                start = end


def _new(store: Store, changed: Mapping[str, str]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of parts, by video; a part that was deleted meanwhile is left out."""

    def read(video_id: str) -> tuple[str, pa.Table] | None:
        path = part_path(video_id, changed[video_id])
        try:
            rows = read_detection_part(store.read(path))
        except MissingError:
            return None
        except (ValueError, OSError) as error:
            log.warning("%s is damaged and not in the table; delete it to detect again: %s", path, error)
            return None
        key = pa.repeat(pa.scalar(changed[video_id]), rows.num_rows)
        return video_id, rows.append_column(KEY, key).select(TABLE_SCHEMA.names)

    waiting = iter(sorted(changed))
    with ThreadPoolExecutor(READERS) as threads:
        while some := list(islice(waiting, 64 * READERS)):
            yield from (found for found in threads.map(read, some) if found)
