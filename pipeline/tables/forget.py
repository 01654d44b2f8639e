"""Erases videos from an output, everywhere."""

import html
import json
import logging
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage import Store, video_dir
from pipeline.storage.parquet import read_parquet, to_parquet
from pipeline.storage.paths import CHECKPOINTS, CORRECTIONS, FAILURES, NIGHTS, PARTS, PUBLISH, RUNS
from pipeline.tables import delete_videos, drop_history, fenced_turn

log = logging.getLogger(__name__)

ROOMS = (PARTS, FAILURES, CHECKPOINTS, CORRECTIONS, "previews")
RECORDS = (RUNS, PUBLISH, NIGHTS)


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What was erased."""

    objects: int
    """Parts, failure records, checkpoints, corrections and previews."""
    mask_rows: int
    table_files: int
    """Files of the tables' past."""
    records: int
    """Records of runs, nights and publishing that named a video: rewritten without it, or dropped."""


def forget(store: Store, video_ids: Collection[str]) -> Forgotten:
    """Erase these videos: parts, failures, checkpoints, corrections, rows, older versions of tables, run records.

    The tables lose their history with it: time travel to before this moment is over. Run no labelling meanwhile.
    """
    objects = sum(store.delete_prefix(f"{room}/{video_dir(video_id)}") for room in ROOMS for video_id in video_ids)
    rows = delete_videos(store, sorted(video_ids))
    with fenced_turn(store):  # or a publisher at work would write what it read before
        records = sum(_rewrite(store, entry.path, video_ids) for room in RECORDS for entry in store.list(room))
    store.delete_many([entry.path for entry in store.unfinished_writes()])  # whatever killed processes have left
    return Forgotten(objects=objects, mask_rows=rows, table_files=drop_history(store), records=records)


def _rewrite(store: Store, path: str, video_ids: Collection[str]) -> bool:
    """Take the videos out of one table of a run; a progress or report that names one is dropped whole."""
    if (data := store.read_or_none(path)) is None:
        return False
    if path.endswith(".parquet"):
        table = read_parquet(data)
        if "video_id" not in table.schema.names:
            return False
        named = pc.is_in(table["video_id"], value_set=pa.array(list(video_ids), pa.string()))
        if not pc.any(named).as_py():
            return False
        store.put(path, to_parquet(table.filter(pc.invert(named))))
        return True
    if not any(name in data for video_id in video_ids for name in _spellings(video_id)):
        return False
    store.delete(path)
    return True


def _spellings(video_id: str) -> set[bytes]:
    """The id as reports may spell it, in JSON and in HTML, between what marks its ends."""
    texts = {json.dumps(video_id), f'"{video_id}"', f">{html.escape(video_id)}<", repr(video_id)}
    return {text.encode() for text in texts}
