"""Numbers and an id that each commit writes to a table's log in addition to rows.

The numbers are Delta application transactions, which log checkpoints keep. Their names are those of release 0.1.0.
"""

import uuid
from collections.abc import Iterable

from deltalake import CommitProperties, DeltaTable, Transaction

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.paths import table_log_path

_EPOCH = "sam2-corpus:publish"
_BATCH = "sam2-corpus:batch"
_BEFORE = "sam2-corpus:before"
_COMMIT = "sam2-corpus:commit"


class SupersededError(StorageError):
    """A later publisher has taken over, so this one must stop. Nothing of the refused commit is in the table."""


def new_commit_id() -> str:
    """A random id, to find a commit in the log if the response to it was lost."""
    return uuid.uuid4().hex


def commit_metadata(
    epoch: int, *, commit_id: str | None = None, batch: int | None = None, before: int | None = None
) -> CommitProperties:
    """Commit properties for the log. Of two concurrent commits with an epoch, delta-rs refuses the slower one.

    Args:
        epoch: number of the publisher epoch.
        commit_id: `new_commit_id()`.
        batch: number of the batch of videos that is written to all three tables.
        before: the table's version before anything of the batch was in it.
    """
    numbers = {_EPOCH: epoch, _BATCH: batch, _BEFORE: before}
    return CommitProperties(
        custom_metadata={_COMMIT: commit_id} if commit_id else None,
        app_transactions=[Transaction(name, number) for name, number in numbers.items() if number is not None],
    )


def epoch_of(table: DeltaTable) -> int:
    """The epoch of the last publisher that wrote to the table; 0 before the first."""
    return table.transaction_version(_EPOCH) or 0


def batch_of(table: DeltaTable) -> int:
    """The number of the last batch of videos in the table; 0 before the first."""
    return table.transaction_version(_BATCH) or 0


def version_before_batch(table: DeltaTable) -> int:
    """The table's version before anything of its last batch was in it."""
    return table.transaction_version(_BEFORE) or 0


def holds_commit(store: Store, name: str, versions: Iterable[int], commit_id: str) -> bool:
    """Whether one of these versions of a table is this commit. `DeltaTable.history` would hold the GIL."""
    entries = (store.read_or_none(table_log_path(name, version)) for version in versions)
    return any(entry is not None and commit_id.encode() in entry for entry in entries)


def refuse_if_superseded(newest: int, epoch: int, store: Store) -> None:
    """Raise if this publisher's epoch is not the newest one in the tables.

    Raises:
        SupersededError: A newer epoch exists.
    """
    if newest > epoch:
        raise SupersededError(f"stopped publishing to {store}: a later publisher has taken over")
