"""Videos that wait for a worker: those never assigned, retries, and suspects; by the kinds of workers that they fit."""

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = Sequence[float] | npt.NDArray[Any]


class Waiting:
    """The waiting videos.

    Args:
        order: indices of the videos, by priority, then most expensive first.
        kinds: number of kinds of workers, which are numbered from the smallest.
        smallest: of every video by index the smallest kind that it fits; the kind 0 where absent.
        priorities: of every video by index; all equal where absent.
    """

    def __init__(
        self,
        order: Numbers,
        *,
        kinds: int = 1,
        smallest: Numbers | None = None,
        priorities: Numbers | None = None,
    ) -> None:
        self._order, self._smallest = order, smallest
        self._moved: dict[int, int] = {}  # smallest kind of videos that ran out of memory
        self.largest = kinds - 1
        """The largest kind that has workers; it takes the videos of larger kinds, too."""
        if smallest is None:
            self._lines = [_Line(order, priorities), *(_Line((), None) for _ in range(kinds - 1))]
        else:
            indices = np.asarray(order, np.int64)
            of_each = np.asarray(smallest)[indices]
            self._lines = [_Line(indices[of_each == kind], priorities) for kind in range(kinds)]
        self._retries: list[list[tuple[float, int]]] = [[] for _ in range(kinds)]  # heaps of (earliest start, index)
        self._suspects: list[int] = []
        self._count = len(order)

    def __len__(self) -> int:
        return self._count

    def count(self, kind: int) -> int:
        """Number of videos that workers of this kind may take."""
        if kind >= self.largest:
            return self._count
        kinds = range(self._reach(kind) + 1)
        waiting = sum(self._lines[each].left + len(self._retries[each]) for each in kinds)
        return waiting + sum(self.fits(index, kind) for index in self._suspects)

    def fits(self, index: int, kind: int) -> bool:
        """Whether workers of this kind may take the video."""
        return self.smallest_kind(index) <= self._reach(kind)

    def smallest_kind(self, index: int) -> int:
        """The smallest kind that the video fits."""
        return self._moved.get(index, 0 if self._smallest is None else int(self._smallest[index]))

    def move(self, index: int, kind: int) -> None:
        """Let only this kind and larger ones take the video, which is not waiting."""
        self._moved[index] = kind

    def retry(self, index: int, when: float) -> None:
        """Let the video wait again, at least until the time `when`."""
        self._count += 1
        heapq.heappush(self._retries[self.smallest_kind(index)], (when, index))

    def suspect(self, indices: Sequence[int]) -> None:
        """Let these videos wait for a worker of their own."""
        self._count += len(indices)
        self._suspects += indices

    def suspects(self) -> dict[int, int]:
        """Number of suspects by the smallest kind that they fit, larger kinds first."""
        if not self._suspects:
            return {}
        return dict(sorted(Counter(map(self.smallest_kind, self._suspects)).items(), reverse=True))

    def take_suspect(self, kind: int) -> int | None:
        """Take a suspect for a worker of this kind."""
        for place, index in enumerate(self._suspects):
            if self.fits(index, kind):
                self._count -= 1
                return self._suspects.pop(place)
        return None

    def take(self, kind: int, now: float) -> int | None:
        """Take the next video for a worker of this kind: a retry that is due, else one never assigned.

        Of those never assigned the largest kind takes the most expensive one, smaller kinds the cheapest one; of equal
        priority the one that fits the fewest kinds.
        """
        reach = self._reach(kind)
        for heap in self._retries[reach::-1]:
            if heap and heap[0][0] <= now:
                self._count -= 1
                return heapq.heappop(heap)[1]
        lines = [line for line in self._lines[reach::-1] if line.left]
        if not lines:
            return None
        line = max(lines, key=lambda each: each.priority) if len(lines) > 1 else lines[0]  # the first of equal ones
        self._count -= 1
        return line.take(cheapest=kind != self.largest)

    def _reach(self, kind: int) -> int:
        return len(self._lines) - 1 if kind >= self.largest else kind


class _Line:
    """Videos in order, which are taken from both ends of those of the highest priority."""

    def __init__(self, order: Numbers, priorities: Numbers | None) -> None:
        self._order = order
        self._next, self._stop = 0, len(order)
        self._ends = [len(order)]
        if priorities is not None and len(order):
            self._priorities: npt.NDArray[Any] | None = np.asarray(priorities)[np.asarray(order)]
            self._ends = [*(np.flatnonzero(np.diff(self._priorities)) + 1).tolist(), len(order)]
            self._stop = self._ends[0]
        else:
            self._priorities = None
        self.left = len(order)

    @property
    def priority(self) -> float:
        """Of the next video."""
        return 0.0 if self._priorities is None else float(self._priorities[self._next])

    def take(self, *, cheapest: bool) -> int:
        if cheapest:
            self._stop -= 1
            index = self._order[self._stop]
        else:
            index = self._order[self._next]
            self._next += 1
        self.left -= 1
        if self._next == self._stop and self.left:
            self._next = self._ends.pop(0)
            self._stop = self._ends[0]
        return int(index)
