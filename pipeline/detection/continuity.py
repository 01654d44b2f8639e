"""Which detections continue a masklet: by the links between looks, and by where a detection last showed it."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.detection.links import Links, may_be_one
from pipeline.detection.looks import Look, boxes_of
from pipeline.detection.masklets import Masklet
from pipeline.detection.matching import best_matches, nearness

SURE, UNSURE = 0.5, 0.2
"""Overlap that a link to the last detection of a masklet counts as: the only one possible, and one of several."""
LOST_REACH, ENDED_REACH = 4.0, 1.0
"""`matching.REACH` for a lost masklet and a detection that nothing else explains, and for one that has ended."""
AHEAD = 1
"""Looks ahead in which a masklet is looked for that this look does not see."""


class Continuity:
    """What the detections of a video, all known beforehand, say of masklets."""

    def __init__(self, looks: Sequence[Look], cuts: Sequence[int] = ()) -> None:
        """`cuts` are the first frames after cuts, ascending."""
        self._looks, self._cuts, self.links = looks, cuts, Links(looks, cuts)

    def linked(self, number: int, masklets: Sequence[Masklet]) -> npt.NDArray[np.float64]:
        """(D, M): above 0 where a detection of a look continues the last one that showed a masklet."""
        found = np.zeros((len(self._looks[number].detections), len(masklets)))
        for d in range(len(found)):
            if (earlier := self.links.earlier(number, d)) is not None:
                weight = SURE if self.links.is_sure(number, d) else UNSURE
                found[d] = [weight * (masklet.seen == earlier) for masklet in masklets]
        return found

    def found_again(
        self, number: int, free: Sequence[int], masklets: Sequence[Masklet], lost: Sequence[int]
    ) -> dict[int, int]:
        """Lost masklets by the free detection of a look that is near the last one which showed them."""
        if not free or not lost:
            return {}
        some, last = [self._looks[number].detections[d] for d in free], [masklets[m].last for m in lost]
        near, close = (nearness(boxes_of(some), boxes_of(last), reach=reach) for reach in (LOST_REACH, ENDED_REACH))
        ended = np.array([masklets[m].ended for m in lost])
        scores = np.where(ended, close, near) * may_be_one(some, last)
        return {free[n]: lost[k] for n, k in best_matches(scores, least=0.01)}

    def may_show(self, number: int, d: int, masklet: Masklet) -> bool:
        """Whether a detection may show this masklet: it continues no detection of another one."""
        return self.links.earlier(number, d) in (None, masklet.seen)

    def is_seen_soon(self, number: int, masklet: Masklet) -> bool:
        """Whether one of the next looks may show a masklet that this one does not."""
        for n in range(number + 1, min(number + 1 + AHEAD, len(self._looks))):
            some = self._looks[n].detections
            if bisect_right(self._cuts, self._looks[number].frame) < bisect_right(self._cuts, self._looks[n].frame):
                return False
            near = nearness(boxes_of([masklet.last]), boxes_of(some), reach=LOST_REACH) * may_be_one(
                [masklet.last], some
            )
            if any(self.may_show(n, int(d), masklet) for d in np.flatnonzero(near[0] > 0)):
                return True
        return False
