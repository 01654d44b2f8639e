"""What commits leave in a table's log beside rows: numbers that outlive checkpoints, and a name."""

import uuid
from collections.abc import Iterable

from deltalake import CommitProperties, DeltaTable, Transaction

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.paths import table_log_path

_TURN = "sam2-corpus:publish"
_BATCH = "sam2-corpus:batch"
_BEFORE = "sam2-corpus:before"
_COMMIT = "sam2-corpus:commit"


class SupersededError(StorageError):
    """A later publisher has the tables: this one must stop. Nothing of the commit that was refused is in the table."""


def new_commit() -> str:
    """A name for one commit, by which it is known again where its answer was lost."""
    return uuid.uuid4().hex


def marks(
    turn: int, *, commit: str | None = None, batch: int | None = None, before: int | None = None
) -> CommitProperties:
    """What a commit leaves. Of two commits at once that leave a turn, delta-rs refuses the slower one."""
    numbers = {_TURN: turn, _BATCH: batch, _BEFORE: before}
    return CommitProperties(
        custom_metadata={_COMMIT: commit} if commit else None,
        app_transactions=[Transaction(name, number) for name, number in numbers.items() if number is not None],
    )


def turn_of(table: DeltaTable) -> int:
    """The number of the last turn that wrote to the table."""
    return table.transaction_version(_TURN) or 0


def batch_of(table: DeltaTable) -> int:
    """The number of the last batch of videos that were written to the table together; 0 before the first."""
    return table.transaction_version(_BATCH) or 0


def before_of(table: DeltaTable) -> int:
    """The table's version before anything of its last batch was in it."""
    return table.transaction_version(_BEFORE) or 0


def holds_commit(store: Store, name: str, versions: Iterable[int], commit: str) -> bool:
    """Whether one of these versions of a table is this commit. `DeltaTable.history` would hold Python's lock."""
    entries = (store.read_or_none(table_log_path(name, version)) for version in versions)
    return any(entry is not None and commit.encode() in entry for entry in entries)


def refuse_if_superseded(newest: int, turn: int, store: Store) -> None:
    """Stop a publisher whose turn is not the newest that tables know."""
    if newest > turn:
        raise SupersededError(f"stopped publishing to {store}: a later publisher has taken over")
