"""What a look's detections and the masks that were tracked on its frame say about each other."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.detection.looks import BoxSides, Detection, boxes_of
from pipeline.detection.matching import overlaps
from pipeline.masks import rle
from pipeline.masks.components import drop_sprinkles

ON_ANOTHER = 0.7
"""With this overlap two masks, or a mask and a detection, show the same thing."""
SHADOW = 0.5
"""With this overlap the mask of an object that no detection shows lies on that of another one."""
DOUBT = 0.7
"""The model doubts a mask whose IoU it estimates below this."""
SPECK = 0.25
"""Connected parts of a mask of at most this share of its area do not count towards its box."""


class Evidence:
    """The overlaps of a look's detections with the masks that were tracked there."""

    def __init__(
        self,
        detections: Sequence[Detection],
        masks: npt.NDArray[np.bool_],
        estimates: Sequence[float],
        rows: Sequence[int | None],
    ) -> None:
        """
        Args:
            detections: the look's.
            masks: (O, H, W), of all tracked objects.
            estimates: (O), the model's, of the IoU of each mask.
            rows: the place among the masks of each masklet; None for one that is not tracked.
        """
        self._masks, self._estimates, self._rows = masks, estimates, rows
        self._matched: list[int] = []
        boxes = np.array([box_of(without_specks(mask)) for mask in masks], np.float64).reshape(-1, 4)
        self._iou, self._contained = overlaps(boxes_of(detections), boxes)
        """(D, O): of a detection's box with the mask's box, of its mask with the mask."""
        for d, detection in enumerate(detections):
            if detection.mask is not None:
                own = rle.decode(detection.mask[1], detection.mask[0])
                shared = (masks & own).sum(axis=(1, 2))
                areas, area = masks.sum(axis=(1, 2)), own.sum()
                self._iou[d] = shared / np.maximum(areas + area - shared, 1)
                self._contained[d] = shared / np.maximum(np.minimum(areas, area), 1)

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """(D, M): of each detection with each masklet; 0 for one that is not tracked."""
        found = np.zeros((len(self._iou), len(self._rows)))
        for m, row in enumerate(self._rows):
            if row is not None:
                found[:, m] = self._iou[:, row]
        return found

    def is_present(self, m: int) -> bool:
        """Whether a masklet has a mask that is not empty."""
        row = self._rows[m]
        return row is not None and bool(self._masks[row].any())

    def match(self, masklets: Iterable[int]) -> None:
        """Note the masklets whose masks detections show."""
        self._matched = sorted(masklets)

    def is_doubted(self, m: int) -> bool:
        """Whether the model itself doubts the mask of a masklet."""
        row = self._rows[m]
        return row is not None and self._estimates[row] < DOUBT

    def is_shadow(self, m: int) -> bool:
        """Whether a masklet has no mask, or an unmatched one's lies on that of a matched masklet."""
        row, others = self._rows[m], [row for each in self._matched if (row := self._rows[each]) is not None]
        if row is None or not self.is_present(m):
            return True
        if not others:
            return False
        shared = (self._masks[others] & self._masks[row]).sum(axis=(1, 2))
        joined = (self._masks[others] | self._masks[row]).sum(axis=(1, 2))
        return float((shared / np.maximum(joined, 1)).max()) >= SHADOW

    def lies_on_a_mask(self, d: int, *, but: Iterable[int] = ()) -> bool:
        """Whether a detection shows what a tracked mask shows, those of the masklets `but` aside."""
        left_out = [row for m in but if (row := self._rows[m]) is not None]
        iou, contained = (np.delete(each[d], left_out) for each in (self._iou, self._contained))
        if not len(iou):
            return False
        return bool(iou.max() >= ON_ANOTHER or (contained.max() >= 0.9 and iou.max() >= 0.2))


def without_specks(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask without parts that are small beside the whole: one stray pixel would make its box meaningless."""
    return drop_sprinkles(mask[None], SPECK * float(mask.sum()))[0]


def box_of(mask: npt.NDArray[np.bool_]) -> BoxSides:
    """The box of a mask; an empty one at the origin."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
