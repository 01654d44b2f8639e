"""One publisher at a time: a lease whose number goes with every table commit.

A publisher that was thought dead and wakes up cannot do harm: whoever writes rows or deletes files leaves the number of
the turn in all tables first, and commits with an earlier one are refused from then on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pipeline.errors import StorageError
from pipeline.storage import Store
from pipeline.storage.lease import STALE_S, Lease, LeaseHeldError
from pipeline.storage.paths import PUBLISHER_LEASES
from pipeline.tables.delta import fence, newest_turn
from pipeline.tables.output import claim_output

WAIT_S = 1800.0


@contextmanager
def take_turn(store: Store, *, above: int = 0, wait_s: float = WAIT_S, stale_s: float = STALE_S) -> Iterator[int]:
    """Wait for the publisher at work, if any, then hold the next turn; gives its number, greater than `above`.

    Raises:
        UsageError: It is not an output, or a newer release made it.
        StorageError: The other publisher is still at work after `wait_s`.
    """
    claim_output(store)
    with ExitStack() as held:
        try:
            lease = Lease(store, PUBLISHER_LEASES, who="a publisher", above=above, wait_s=wait_s, stale_s=stale_s)
            number = held.enter_context(lease)
        except LeaseHeldError as error:
            raise StorageError(
                f"cannot publish to {store}: another publisher has been at work for {wait_s:.0f} s "
                f"({error.holder}); try again when it has finished"
            ) from None
        yield number


@contextmanager
def fenced_turn(store: Store, *, wait_s: float = WAIT_S) -> Iterator[int]:
    """Take the next turn and leave its number in the tables; for these, nobody else is at work from then on."""
    with take_turn(store, above=newest_turn(store), wait_s=wait_s) as turn:
        fence(store, turn)
        yield turn
