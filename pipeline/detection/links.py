"""Links between the detections of consecutive looks, made before tracking: they confirm each other."""

from collections.abc import Sequence

import numpy as np

from pipeline.detection.looks import Detection, Look, boxes_of
from pipeline.detection.matching import best_matches, nearness

AHEAD = 2
"""Looks after a detection in which it is looked for: detectors miss a thing now and then."""


class Links:
    """Which detection shows the thing of an earlier one; (look, detection) identifies a detection."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._earlier: dict[tuple[int, int], tuple[int, int]] = {}
        self._linked: set[tuple[int, int]] = set()
        """Detections that a later one is linked to."""
        for ahead in range(1, AHEAD + 1):
            for here in range(len(looks) - ahead):
                self._link(looks, here, here + ahead)

    def earlier(self, look: int, detection: int) -> tuple[int, int] | None:
        """The detection that this one continues."""
        return self._earlier.get((look, detection))

    def agrees(self, look: int, detection: int) -> bool:
        """Whether another look agrees with this detection."""
        return (look, detection) in self._linked or (look, detection) in self._earlier

    def _link(self, looks: Sequence[Look], here: int, there: int) -> None:
        ours = [n for n in range(len(looks[here].detections)) if (here, n) not in self._linked]
        theirs = [n for n in range(len(looks[there].detections)) if (there, n) not in self._earlier]
        if not ours or not theirs:
            return
        one, other = ([looks[k].detections[n] for n in some] for k, some in ((here, ours), (there, theirs)))
        scores = nearness(boxes_of(one), boxes_of(other)) * may_be_one(one, other)
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
