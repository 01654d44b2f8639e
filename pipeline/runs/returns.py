"""Videos whose published labels a run replaces with older ones: no video is pending, but tables change."""

from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.runs.plan import Plan
from pipeline.storage import MissingError, Store
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.parts import UnreadablePart, find_part

READERS = 16
UNKNOWN_RUN = "unknown"


class Made(NamedTuple):
    """The run that made labels, and when; None if old labels do not have it."""

    run_id: str | None
    at: datetime | None


def find_returns(store: Store, plan: Plan, labelled: pa.Table, *, pinned: Collection[str] = ()) -> dict[str, int]:
    """Number of videos that return to older labels, by the run that made the older labels; most videos first.

    Args:
        store: the output.
        plan: of the run; a return is a video that is labelled under another key than the published one.
        labelled: the published videos: video_id and label_key.
        pinned: videos whose pinned labels stay.

    Raises:
        StorageError: The output cannot be read.
    """
    wanted = plan.table.select(["video_id", "label_key"]).filter(pc.equal(plan.table["state"], "labelled"))
    where = pc.index_in(wanted["video_id"], value_set=labelled["video_id"])
    differs = pc.not_equal(wanted["label_key"], labelled["label_key"].take(where))
    stays = pc.is_in(wanted["video_id"], value_set=pa.array(pinned, pa.string()))
    pairs = wanted.filter(pc.and_not(pc.fill_null(differs, False), stays))
    if not pairs.num_rows:
        return {}
    published = _published(store, pairs["video_id"])
    with ThreadPoolExecutor(READERS) as threads:
        parts = threads.map(lambda row: _made(store, row["video_id"], row["label_key"]), pairs.to_pylist())
    found = zip(pairs["video_id"].to_pylist(), parts, strict=True)
    runs = Counter(
        made.run_id or UNKNOWN_RUN for video_id, made in found if made and _is_older(made, published[video_id])
    )
    return dict(runs.most_common())


def describe_returns(returns: dict[str, int]) -> Iterable[str]:
    """A line for each run whose labels return."""
    for run_id, count in returns.items():
        videos = "1 video returns" if count == 1 else f"{count} videos return"
        yield f"{videos} to labels of run {run_id}, which are older than the published ones"


def _is_older(made: Made, published: Made) -> bool:
    """Whether labels are older than the published ones: by their runs, whose names sort by time, else by the clock."""
    if made.run_id and published.run_id:
        return made.run_id < published.run_id
    return not (made.at and published.at) or made.at < published.at


def _published(store: Store, video_ids: pa.ChunkedArray) -> dict[str, Made]:
    table = labelled_videos(store, ["video_id", "run_id", "committed_at"])
    table = table.filter(pc.is_in(table["video_id"], value_set=video_ids))
    return {row["video_id"]: Made(row["run_id"], row["committed_at"]) for row in table.to_pylist()}


def _made(store: Store, video_id: str, label_key: str) -> Made | None:
    """Origin of a committed part; None if it is absent or damaged, so that it will not be published."""
    try:
        part = find_part(store, video_id, label_key)
    except MissingError:
        return None
    if isinstance(part, UnreadablePart):
        return None
    row = part.header.video.to_pylist()[0]
    return Made(row.get("run_id"), row.get("committed_at"))
