"""The tables' past: dropped where it must not be kept."""

from pipeline.publish.tables import TABLES, newest_turn, open_table
from pipeline.publish.turn import WAIT_S, take_turn
from pipeline.publish.upkeep import vacuum
from pipeline.store import Store

LOG = "_delta_log"


def drop_history(store: Store, *, wait_s: float = WAIT_S) -> int:
    """Reduce the tables to what they hold now; returns how many files of the past are gone.

    A table's log names deleted videos in its predicates and statistics. A checkpoint holds all that its newest version
    needs, so the log up to there can go; time travel ends with it.
    """
    removed = vacuum(store, retention_hours=0, wait_s=wait_s)
    with take_turn(store, above=newest_turn(store), wait_s=wait_s):
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                store.attempt(table.create_checkpoint, "checkpoint the table", name)
                newest = f"{table.version():020}"
                past = [
                    entry.path
                    for entry in store.list(f"{name}/{LOG}")
                    if (file := entry.path.rpartition("/")[2])[:20].isdigit()
                    and (file[:20] < newest or file == f"{newest}.json")
                ]
                store.delete_many(past)
                removed += len(past)
    return removed
