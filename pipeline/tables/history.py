"""The tables' past: dropped where it must not be kept."""

from pipeline.storage import Store
from pipeline.storage.paths import table_log_dir
from pipeline.tables.delta import TABLES, open_table
from pipeline.tables.turn import WAIT_S, fenced_turn
from pipeline.tables.upkeep import vacuum


def drop_history(store: Store, *, wait_s: float = WAIT_S) -> int:
    """Reduce the tables to what they hold now; returns how many files of the past are gone.

    A table's log names deleted videos in its predicates and statistics. A checkpoint holds all that its newest version
    needs, so the log before that can go; time travel ends with it. The newest entry, which only says whose turn it is,
    stays: delta-rs writes to no table whose version it does not find.
    """
    removed = vacuum(store, retention_hours=0, wait_s=wait_s)
    with fenced_turn(store, wait_s=wait_s):
        for name in TABLES:
            if (table := open_table(store, name)) is not None:
                store.attempt(table.create_checkpoint, "checkpoint the table", name)
                newest = f"{table.version():020}"
                past = [
                    entry.path
                    for entry in store.list(table_log_dir(name))
                    if (version := entry.path.rpartition("/")[2][:20]).isdigit() and version < newest
                ]
                store.delete_many(past)
                removed += len(past)
    return removed
