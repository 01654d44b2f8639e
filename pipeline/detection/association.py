"""Association while tracking: which objects begin, are prompted again and end, decided look by look.

At a look every live object was tracked. A detection with a tracker's identity is matched to the object of that
identity, wherever its mask is. The others are matched to the tracked masks one to one, with the best total overlap,
within a category. Then

* a matched detection whose overlap is poor repairs the object: it prompts it again;
* an object that is lost (its mask is empty or lies on another matched object, or several looks did not see it) is
  matched by where a detection last showed it, and prompted again; so is one whose last detection is linked to this one;
* a detection that matches nothing begins an object, if another look agrees with it or its score is high, and if it does
  not lie on a tracked object;
* an object that is absent and was not seen for long ends.

The first detection of an identity begins an object without another look, also on the masks of other identities; it
joins an object without identity that it matches. No object ends before the last look at its identity.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.detection.links import Links, may_be_one
from pipeline.detection.looks import BoxSides, Detection, Look, boxes_of
from pipeline.detection.matching import best_matches, nearness, overlaps
from pipeline.detection.thresholds import Association
from pipeline.manifest.identities import object_ids
from pipeline.masks import rle
from pipeline.masks.components import drop_sprinkles
from pipeline.tracking.decisions import Decision
from pipeline.tracking.objects import FramePrompt, TrackedFrame

MATCH = 0.2
"""Least overlap of a detection with the mask of the object that it shows."""
REPAIR = 0.5
"""An object whose overlap with its detection is below this is prompted again."""
ON_ANOTHER = 0.7
"""With this overlap two masks, or a mask and a detection, show the same thing."""
SPECK = 0.25
"""Connected parts of a mask of at most this share of its area do not count towards its box."""
LINK = 0.2
"""Least nearness of two linked detections for the second to repair an object whose mask is elsewhere."""
LOST_REACH = 4.0
"""`matching.REACH` for a lost object and a detection that nothing else explains."""
UNSEEN = 2
"""Consecutive looks without a detection on its mask, this one included, from which an object counts as lost."""
LOST = 2
"""Looks after which an object whose mask lies on another one ends."""

MasksOf = Callable[[TrackedFrame], npt.NDArray[np.bool_]]
"""The masks (O, H, W) of a tracked frame at display size."""


@dataclass(kw_only=True)
class Masklet:
    """A live object that association began."""

    object_id: int
    category: str | None
    box: BoxSides
    """Of the last detection that showed it."""
    seen: tuple[int, int]
    """That detection: its look and its place there."""
    present_s: float
    """When it was last seen by a look, or its mask was last not empty at one."""
    unseen: int = 0
    """Consecutive looks at which no detection showed it."""
    shadows: int = 0
    """Consecutive looks at which its mask lay on another object."""
    track_id: str | None = None
    """The identity that a tracker gave."""

    @property
    def last(self) -> Detection:
        """What showed it last."""
        return Detection(box=self.box, category=self.category, track_id=self.track_id)


class Associator:
    """The `Decider` of one video with detections."""

    def __init__(
        self,
        looks: Sequence[Look],
        settings: Association,
        *,
        size: tuple[int, int],
        masks_of: MasksOf,
        time_of: Callable[[int], float],
        taken: Collection[int] = (),
    ) -> None:
        """`time_of` gives the time in seconds of a frame that is being tracked; `taken` are ids of prompted objects."""
        self.prompts: list[dict[str, Any]] = []
        """The decided prompts as records of a manifest, with `why`: start, repair or found again."""
        self.dropped: Counter[str] = Counter()
        """Detections that began nothing, by reason."""
        self._looks = {look.frame: (n, look) for n, look in enumerate(looks)}
        self._links = Links(looks)
        self._settings, self._size, self._masks_of, self._time_of = settings, size, masks_of, time_of
        identities = [d.track_id for look in looks for d in look.detections if d.track_id is not None]
        self._ids = object_ids(identities, taken=taken)
        self._last_looks = {d.track_id: n for n, look in enumerate(looks) for d in look.detections if d.track_id}
        self._next_id = 1 + max((*taken, *self._ids.values()), default=0)
        self._live: list[Masklet] = []

    @property
    def first(self) -> int | None:
        return min(self._looks, default=None)

    def looks_at(self, frame: int) -> bool:
        return frame in self._looks

    def decide(self, frame: int, tracked: TrackedFrame | None) -> Decision:
        number, look = self._looks[frame]
        detections, now = look.detections, self._time_of(frame)
        ids = tracked.object_ids if tracked else ()
        scene = _Scene(detections, self._masks_of(tracked) if tracked else np.zeros((0, *self._size), np.bool_))
        place = {object_id: n for n, object_id in enumerate(ids)}
        rows = [place[m.object_id] for m in self._live]
        prompts: dict[int, tuple[Detection, str]] = {}

        scores = scene.iou[:, rows] * may_be_one(detections, [m.last for m in self._live])
        known = self._of_identities(detections)
        taken = known | dict(best_matches(_without(scores, known), least=MATCH))
        """Live masklet by detection."""
        matched = {m for d, m in taken.items() if scores[d, m] >= MATCH}
        shadows = {m for m in range(len(self._live)) if m not in matched and self._is_shadow(m, rows, matched, scene)}
        lost = [m for m, masklet in enumerate(self._live) if m in shadows or masklet.unseen + 1 >= UNSEEN]
        unmatched = [m for m in range(len(self._live)) if m not in set(taken.values())]
        taken |= self._found_again(number, detections, lost, unmatched, taken)
        for d, m in taken.items():
            masklet = self._live[m]
            may_repair = d in known or self._may_repair(number, d, masklet)
            if m in matched and (scores[d, m] >= REPAIR or not may_repair):
                why = None
            else:
                why = "repair" if m in matched else "found again"
            if why:
                prompts[masklet.object_id] = (detections[d], why)
            masklet.box, masklet.seen, masklet.present_s = detections[d].box, (number, d), now
            masklet.track_id = masklet.track_id or detections[d].track_id
            masklet.unseen = masklet.shadows = 0
        identified = [rows[m] for m, masklet in enumerate(self._live) if masklet.track_id is not None]
        ended = self._retired(number, rows, set(taken.values()), shadows, scene, now)
        self._begin(
            number, detections, taken, scene, prompts, now=now, tracked=len(ids) - len(ended), identified=identified
        )
        return self._decision(frame, prompts, ended)

    def _of_identities(self, detections: Sequence[Detection]) -> dict[int, int]:
        """Live masklets by the detection that has their identity."""
        live = {masklet.track_id: m for m, masklet in enumerate(self._live) if masklet.track_id is not None}
        return {d: live[each.track_id] for d, each in enumerate(detections) if each.track_id in live}

    def _is_shadow(self, m: int, rows: Sequence[int], matched: set[int], scene: "_Scene") -> bool:
        """Whether an unmatched masklet is absent, or its mask lies on that of a matched one."""
        if not scene.is_present(rows[m]):
            return True
        others = [rows[other] for other in matched]
        return bool(others) and float(scene.mask_iou(rows[m], others).max()) >= ON_ANOTHER

    def _found_again(
        self,
        number: int,
        detections: Sequence[Detection],
        lost: Sequence[int],
        unmatched: Sequence[int],
        taken: Mapping[int, int],
    ) -> dict[int, int]:
        """Unmatched masklets by the unmatched detection that continues the last one which showed them.

        A masklet that is not lost, but whose mask no detection overlaps, is found by a link between boxes that overlap.
        """
        free = [d for d in range(len(detections)) if d not in taken]
        if not free or not unmatched:
            return {}
        last = [self._live[m].last for m in unmatched]
        some = [detections[d] for d in free]
        near = nearness(boxes_of(some), boxes_of(last), reach=LOST_REACH) * may_be_one(some, last)
        for n, d in enumerate(free):
            for k, m in enumerate(unmatched):
                linked = self._links.earlier(number, d) == self._live[m].seen
                if m not in lost and not (linked and near[n, k] >= LINK):
                    near[n, k] = 0.0
                near[n, k] += linked and near[n, k] > 0
        return {free[n]: unmatched[k] for n, k in best_matches(near, least=0.01)}

    def _may_repair(self, number: int, d: int, masklet: Masklet) -> bool:
        """Whether a detection with a poor overlap shows this masklet: it continues no detection of another one."""
        earlier = self._links.earlier(number, d)
        return earlier is None or earlier == masklet.seen

    def _retired(
        self, number: int, rows: Sequence[int], seen: set[int], shadows: set[int], scene: "_Scene", now: float
    ) -> list[int]:
        """Masklets that end on this look; they are no longer live."""
        ended = set()
        for m, masklet in enumerate(self._live):
            if m in seen:
                continue
            present = scene.is_present(rows[m])
            masklet.unseen += 1
            masklet.shadows = masklet.shadows + 1 if m in shadows and present else 0
            if present and m not in shadows:
                masklet.present_s = now
            limit = self._settings.retire_after_s
            if self._last_looks.get(masklet.track_id or "", -1) > number:
                continue
            if masklet.shadows >= LOST or (limit is not None and not present and now - masklet.present_s >= limit):
                ended.add(m)
        gone = [self._live[m].object_id for m in sorted(ended)]
        self._live = [masklet for m, masklet in enumerate(self._live) if m not in ended]
        return gone

    def _begin(
        self,
        number: int,
        detections: Sequence[Detection],
        taken: Mapping[int, int],
        scene: "_Scene",
        prompts: dict[int, tuple[Detection, str]],
        *,
        now: float,
        tracked: int,
        identified: Sequence[int],
    ) -> None:
        """Begin an object for every unmatched detection that is confirmed and lies on no other object.

        One with an identity needs no confirmation and may lie on the masks of others with one (`identified`).
        """
        begun: list[Detection] = []
        objects = len({prompt["object_id"] for prompt in self.prompts})
        for d, detection in enumerate(detections):
            if d in taken:
                continue
            if detection.track_id is not None:
                why = "on_an_object" if scene.lies_on_a_mask(d, but=identified) else None
            else:
                why = self._not_begun(number, d, detection, scene, [*begun, *(x for x, _ in prompts.values())])
            if why:
                self.dropped[why] += 1
                continue
            if objects + len(begun) >= self._settings.max_objects:
                self.dropped["max_objects"] += 1
                continue
            if tracked + len(begun) >= self._settings.max_objects_per_frame:
                self.dropped["max_objects_per_frame"] += 1
                continue
            begun.append(detection)
            if (object_id := self._ids.get(detection.track_id or "")) is None:
                object_id, self._next_id = self._next_id, self._next_id + 1
            prompts[object_id] = (detection, "start")
            self._live.append(
                Masklet(
                    object_id=object_id,
                    category=detection.category,
                    box=detection.box,
                    seen=(number, d),
                    present_s=now,
                    track_id=detection.track_id,
                )
            )

    def _not_begun(
        self, number: int, d: int, detection: Detection, scene: "_Scene", prompted: Sequence[Detection]
    ) -> str | None:
        """Why a detection begins no object; None if it does."""
        if scene.lies_on_a_mask(d):
            return "on_an_object"
        iou, contained = overlaps(boxes_of([detection]), boxes_of(prompted))
        if prompted and max(float(iou.max()) / ON_ANOTHER, float(contained.max()) / 0.9) >= 1:
            return "on_an_object"
        sure = detection.score is not None and detection.score >= self._settings.confirm_score
        return None if sure or self._links.agrees(number, d) else "unconfirmed"

    def _decision(self, frame: int, prompts: Mapping[int, tuple[Detection, str]], ended: Sequence[int]) -> Decision:
        found = {}
        for object_id, (detection, why) in sorted(prompts.items()):
            record = {"object_id": object_id, "frame_index": frame, **detection.record(), "why": why}
            if detection.track_id not in (None, str(object_id)):
                record["track_id"] = detection.track_id
            self.prompts.append(record)
            found[object_id] = FramePrompt(**detection.arrays(self._size))
        for object_id in ended:
            last = next(p for p in reversed(self.prompts) if p["object_id"] == object_id)
            last["until_frame"] = frame + 1
        return Decision(prompts=found, ended=ended)

    def state(self) -> dict[str, Any]:
        return {
            "next_id": self._next_id,
            "live": [asdict(masklet) for masklet in self._live],
            "prompts": self.prompts,
            "dropped": dict(self.dropped),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._next_id, self.prompts = state["next_id"], [dict(prompt) for prompt in state["prompts"]]
        self.dropped = Counter(state["dropped"])
        self._live = [
            Masklet(**{**values, "box": tuple(values["box"]), "seen": tuple(values["seen"])})
            for values in state["live"]
        ]


class _Scene:
    """The overlaps of a look's detections with the masks that were tracked there."""

    def __init__(self, detections: Sequence[Detection], masks: npt.NDArray[np.bool_]) -> None:
        self._masks = masks
        boxes = np.array([_box(_without_specks(mask)) for mask in masks], np.float64).reshape(-1, 4)
        self.iou, self._contained = overlaps(boxes_of(detections), boxes)
        """(D, O): of a detection's box with the mask's box, of its mask with the mask."""
        for d, detection in enumerate(detections):
            if detection.mask is not None:
                own = rle.decode(detection.mask[1], detection.mask[0])
                shared = (masks & own).sum(axis=(1, 2))
                areas, area = masks.sum(axis=(1, 2)), own.sum()
                self.iou[d] = shared / np.maximum(areas + area - shared, 1)
                self._contained[d] = shared / np.maximum(np.minimum(areas, area), 1)

    def is_present(self, n: int) -> bool:
        return bool(self._masks[n].any())

    def lies_on_a_mask(self, d: int, *, but: Sequence[int] = ()) -> bool:
        """Whether a detection shows what a tracked mask shows, one of `but` aside."""
        iou, contained = (np.delete(each[d], list(but)) for each in (self.iou, self._contained))
        if not len(iou):
            return False
        return bool(iou.max() >= ON_ANOTHER or (contained.max() >= 0.9 and iou.max() >= 0.2))

    def mask_iou(self, one: int, others: Sequence[int]) -> npt.NDArray[np.float64]:
        """IoU of one mask with others."""
        shared = (self._masks[others] & self._masks[one]).sum(axis=(1, 2))
        joined = (self._masks[others] | self._masks[one]).sum(axis=(1, 2))
        return np.asarray(shared / np.maximum(joined, 1))


def _without(scores: npt.NDArray[np.float64], known: Mapping[int, int]) -> npt.NDArray[np.float64]:
    """The scores without those of detections and masklets whose match is known."""
    left = scores.copy()
    left[list(known), :] = 0
    left[:, list(known.values())] = 0
    return left


def _without_specks(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask without parts that are small beside the whole: one stray pixel would make its box meaningless."""
    return drop_sprinkles(mask[None], SPECK * float(mask.sum()))[0]


def _box(mask: npt.NDArray[np.bool_]) -> BoxSides:
    """The box of a mask; an empty one at the origin."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return (0.0, 0.0, 0.0, 0.0)
    return (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
