"""Batches that fit into memory, and the order of their items."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Out = TypeVar("Out")

_BATCHES_UNTIL_RETRY = 64
_MAX_BATCHES_UNTIL_RETRY = 1 << 14


class BatchSize:
    """The number of items that run in one batch.

    It is halved when a batch runs out of memory, because memory is often short for a while only: another video's
    peak, another process on the device. After 64 batches of the smaller size it is doubled again, up to where it began.
    Each further failure doubles the number of batches until the next attempt.
    """

    def __init__(self, name: str, maximum: int) -> None:
        self.name = name
        self.maximum = maximum
        self.now = maximum
        self._failed_before = False
        self._batches_until_retry = _BATCHES_UNTIL_RETRY
        self._batches = 0

    def run(self, items: Sequence[Item], call: Callable[[Sequence[Item]], Out]) -> list[Out]:
        """The results of `call` for consecutive batches of the items.

        Raises:
            torch.OutOfMemoryError: A single item does not fit.
        """
        done: list[Out] = []
        first = 0
        while first < len(items):
            self._grow()
            batch = items[first : first + self.now]
            try:
                done.append(call(batch))
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self._shrink(len(batch))
            else:
                first += len(batch)
                self._batches += len(batch) == self.now
        return done

    def _shrink(self, failed: int) -> None:
        if self._failed_before:
            self._batches_until_retry = min(2 * self._batches_until_retry, _MAX_BATCHES_UNTIL_RETRY)
        self._failed_before = True
        self.now = failed // 2
        self._batches = 0
        logger.warning("Out of memory with %d in a batch: %s is now %d.", failed, self.name, self.now)

    def _grow(self) -> None:
        if self.now < self.maximum and self._batches >= self._batches_until_retry:
            self.now = min(2 * self.now, self.maximum)
            self._batches = 0
            logger.info("Memory may be free again: %s is now %d.", self.name, self.now)


def groups_of(items: Sequence[Item], key: Callable[[Item], Any]) -> list[list[Item]]:
    """Neighbours with the same key, together."""
    groups: list[list[Item]] = []
    for n, item in enumerate(items):
        if n and key(item) == key(items[n - 1]):
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes `order`."""
    places = [0] * len(order)
    for n, place in enumerate(order):
        places[place] = n
    return places
