"""Links between the detections of consecutive looks, made before tracking: they confirm each other."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from pipeline.detection.looks import Detection, Look, boxes_of
from pipeline.detection.matching import best_matches, nearness

AHEAD = 2
"""Looks after a detection in which it is looked for: detectors miss a thing now and then."""


class Links:
    """Which detection shows the thing of an earlier one; (look, detection) identifies a detection."""

    def __init__(self, looks: Sequence[Look], cuts: Sequence[int] = ()) -> None:
        """`cuts` are the first frames after cuts, ascending: no link crosses one."""
        self._earlier: dict[tuple[int, int], tuple[int, int]] = {}
        self._linked: set[tuple[int, int]] = set()
        """Detections that a later one is linked to."""
        before: dict[tuple[int, int], set[tuple[int, int]]] = {}
        after: dict[tuple[int, int], set[tuple[int, int]]] = {}
        for ahead in range(1, AHEAD + 1):
            for here in range(len(looks) - ahead):
                if bisect_right(cuts, looks[here].frame) == bisect_right(cuts, looks[here + ahead].frame):
                    self._link(looks, here, here + ahead, before, after)
        self._sure = {
            later
            for later, earlier in self._earlier.items()
            if before[later] == {earlier} and after[earlier] == {later}
        }
        """Detections that can continue only one, which nothing else can continue."""

    def earlier(self, look: int, detection: int) -> tuple[int, int] | None:
        """The detection that this one continues."""
        return self._earlier.get((look, detection))

    def is_sure(self, look: int, detection: int) -> bool:
        """Whether it continues a detection, and no other one could be meant."""
        return (look, detection) in self._sure

    def agrees(self, look: int, detection: int) -> bool:
        """Whether another look agrees with this detection."""
        return (look, detection) in self._linked or (look, detection) in self._earlier

    def _link(
        self,
        looks: Sequence[Look],
        here: int,
        there: int,
        before: dict[tuple[int, int], set[tuple[int, int]]],
        after: dict[tuple[int, int], set[tuple[int, int]]],
    ) -> None:
        """Link the detections of two looks that are not linked already; note all that are near each other."""
        ours = [n for n in range(len(looks[here].detections)) if (here, n) not in self._linked]
        theirs = [n for n in range(len(looks[there].detections)) if (there, n) not in self._earlier or there - here > 1]
        one, other = ([looks[k].detections[n] for n in some] for k, some in ((here, ours), (there, theirs)))
        scores = nearness(boxes_of(one), boxes_of(other)) * may_be_one(one, other)
        for n, m in np.argwhere(scores > 0):
            before.setdefault((there, theirs[m]), set()).add((here, ours[n]))
            after.setdefault((here, ours[n]), set()).add((there, theirs[m]))
        scores *= [(there, m) not in self._earlier for m in theirs]
        for n, m in best_matches(scores, least=0.01):
            self._earlier[there, theirs[m]] = (here, ours[n])
            self._linked.add((here, ours[n]))


def may_be_one(one: Sequence[Detection], other: Sequence[Detection]) -> np.ndarray:
    """(n, m) bool: whether two detections may show one thing: they have one identity, or one category and not two."""
    categories, identities = (
        tuple(np.array([getattr(d, name) or "" for d in some], object).reshape(-1) for some in (one, other))
        for name in ("category", "track_id")
    )
    (a, b), (i, j) = categories, identities
    same = (i[:, None] == j) & (i[:, None] != "")
    two = (i[:, None] != j) & (i[:, None] != "") & (j != "")
    return np.asarray(same | ((a[:, None] == b) & ~two), np.bool_)
