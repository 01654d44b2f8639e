"""Publisher epochs: one publisher at a time, by a lease whose number goes into every commit to a table.

A publisher that was presumed dead may resume, but cannot write: before it writes rows or deletes files, a publisher
commits the number of its epoch to all tables (fencing), and commits with a lower number are refused from then on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.lease import STALE_S, Lease, LeaseHeldError
from pipeline.storage.paths import PUBLISHER_LEASES
from pipeline.tables.commits import fence, newest_epoch
from pipeline.tables.output import claim_output

WAIT_S = 1800.0


@contextmanager
def hold_epoch(store: Store, *, above: int = 0, wait_s: float = WAIT_S, stale_s: float = STALE_S) -> Iterator[int]:
    """Wait for the current publisher to finish, if there is one, then hold the next epoch; yields its number.

    Args:
        store: the output.
        above: the number is greater than this.
        wait_s: seconds to wait for the current publisher.
        stale_s: seconds after which a publisher without a heartbeat is presumed dead.

    Raises:
        UsageError: It is not an output, or a newer release made it.
        StorageError: The other publisher is still running after `wait_s`.
    """
    claim_output(store, kind=None)
    with ExitStack() as held:
        try:
            lease = Lease(store, PUBLISHER_LEASES, who="a publisher", above=above, wait_s=wait_s, stale_s=stale_s)
            number = held.enter_context(lease)
        except LeaseHeldError as error:
            raise StorageError(
                f"cannot publish to {store}: another publisher has been running for {wait_s:.0f} s "
                f"({error.holder}); retry when it has finished"
            ) from None
        yield number


@contextmanager
def publisher_epoch(store: Store, *, wait_s: float = WAIT_S) -> Iterator[int]:
    """Hold the next epoch and commit its number to the tables, so that no earlier publisher can write to them."""
    with hold_epoch(store, above=newest_epoch(store), wait_s=wait_s) as epoch:
        fence(store, epoch)
        yield epoch
