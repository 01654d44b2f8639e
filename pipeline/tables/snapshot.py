"""The three tables as of one moment, though each has commits of its own.

A batch of videos is written to masks, then masklets, then videos, and counts once videos has it. Each commit of a batch
leaves the batch's number in its table, and which version was the last without it.
"""

from deltalake import DeltaTable

from pipeline.storage import Store
from pipeline.tables.delta import TABLES, leave, open_table
from pipeline.tables.marks import batch_of, before_of


def open_tables(store: Store) -> dict[str, DeltaTable]:
    """The tables that there are, each with the batches that videos has and no other.

    So a video is there as before or after its publication, in all three alike, also while that goes on or when it was
    interrupted. Only an interrupted batch that could not be finished is seen as far as it came, once later ones are
    there or its past was dropped.
    """
    videos = open_table(store, "videos")
    batch = batch_of(videos) if videos else 0
    found = {name: videos if name == "videos" else _until(store, name, batch) for name in TABLES}
    return {name: table for name, table in found.items() if table is not None}


def next_batch(store: Store) -> int:
    """The number of the batch that is to be written next; that of an interrupted one again."""
    videos = open_table(store, "videos")
    return (batch_of(videos) if videos else 0) + 1


def settle(store: Store, turn: int) -> None:
    """Let an interrupted batch count as far as it came: what readers see instead of it is about to be deleted."""
    newest = max((batch_of(table) for name in TABLES if (table := open_table(store, name))), default=0)
    if newest:
        leave(store, "videos", turn, batch=newest)


def _until(store: Store, name: str, batch: int) -> DeltaTable | None:
    table = open_table(store, name)
    while table is not None and batch_of(table) > batch:
        earlier = open_table(store, name, version=before_of(table))
        if earlier is None:
            break
        table = earlier
    return table
