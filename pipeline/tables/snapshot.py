"""The three tables as of one moment, although each has separate commits.

A batch of videos is written to masks, then masklets, then videos, and is published once videos has it. Each commit of a
batch has the batch's number, and the number of the table's last version without the batch.
"""

from deltalake import DeltaTable

from pipeline.storage import Store
from pipeline.tables.commit_metadata import batch_of, version_before_batch
from pipeline.tables.commits import commit_numbers
from pipeline.tables.delta import TABLES, open_table


def open_tables(store: Store) -> dict[str, DeltaTable]:
    """The tables that exist, each at the version that has the same batches as videos.

    All three tables show a video either before or after its publication, also during a publication or after an
    interrupted one. Exception: an interrupted batch that could not be finished is visible in part once later batches
    are published or the versions before it are deleted.
    """
    videos = open_table(store, "videos")
    batch = batch_of(videos) if videos else 0
    found = {name: videos if name == "videos" else _until(store, name, batch) for name in TABLES}
    return {name: table for name, table in found.items() if table is not None}


def next_batch(store: Store) -> int:
    """The number of the next batch to be written; an interrupted batch has the same number again."""
    videos = open_table(store, "videos")
    return (batch_of(videos) if videos else 0) + 1


def finalize_interrupted_batch(store: Store, epoch: int) -> None:
    """Make the written tables of an interrupted batch visible, because the versions before it will be deleted."""
    newest = max((batch_of(table) for name in TABLES if (table := open_table(store, name))), default=0)
    if newest:
        commit_numbers(store, "videos", epoch, batch=newest)


def _until(store: Store, name: str, batch: int) -> DeltaTable | None:
    table = open_table(store, name)
    while table is not None and batch_of(table) > batch:
        earlier = open_table(store, name, version=version_before_batch(table))
        if earlier is None:
            break
        table = earlier
    return table
