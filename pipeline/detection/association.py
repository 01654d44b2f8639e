"""Association while tracking: which objects begin, are prompted again and end, decided look by look.

At a look every object that has not ended was tracked. A detection with a tracker's identity is matched to the object of
that identity, wherever its mask is. The others are matched to objects one to one, with the best total, within a
category: by the overlap with the tracked mask, and by the link to the last detection of the object.

* A matched detection whose overlap is poor prompts its object again (repair).
* A lost object (it has ended, its mask is empty or lies on that of a matched object, or several looks did not see it)
  is found again by a detection that matches nothing and is near the last one which showed the object.
* A detection that matches nothing begins an object, if another look agrees with it or its score is high, and if it does
  not lie on a tracked object.
* An object that neither this look nor the next one sees ends, if its mask lies on that of a matched object or the model
  itself doubts the mask. So does one that is absent and unseen for long, which is never found again.

The first detection of an identity begins an object without another look, also on the masks of other identities; it
joins an object without identity that it matches. No object ends before the last look at its identity.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.detection.continuity import Continuity
from pipeline.detection.evidence import ON_ANOTHER, Evidence
from pipeline.detection.links import may_be_one
from pipeline.detection.looks import Detection, Look, boxes_of
from pipeline.detection.masklets import Masklet
from pipeline.detection.matching import best_matches, overlaps
from pipeline.detection.thresholds import Association
from pipeline.manifest.identities import object_ids
from pipeline.tracking.decisions import Decision
from pipeline.tracking.objects import FramePrompt, TrackedFrame

MATCH = 0.2
"""Least overlap of a detection with the mask of the object that it shows, or weight of its link."""
REPAIR = 0.5
"""An object whose overlap with its detection is below this is prompted again."""
UNSEEN = 2
"""Consecutive looks without a detection on its mask, this one included, from which an object counts as lost."""

MasksOf = Callable[[TrackedFrame], tuple[npt.NDArray[np.bool_], Sequence[float]]]
"""The masks (O, H, W) of a tracked frame at display size, and the model's estimates of their IoU (O)."""


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
        self._continuity = Continuity(looks, settings.cuts)
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
        return frame in self._looks or self._is_last_of_shot(frame)

    def _is_last_of_shot(self, frame: int) -> bool:
        cuts = self._settings.cuts
        at = bisect_left(cuts, frame + 1)
        return at < len(cuts) and cuts[at] == frame + 1

    def decide(self, frame: int, tracked: TrackedFrame | None) -> Decision:
        prompts: dict[int, tuple[Detection, str]] = {}
        ended: list[int] = []
        if frame in self._looks:
            prompts, ended = self._decided(frame, tracked)
        if self._is_last_of_shot(frame):
            ended += [m.object_id for m in self._live if not m.ended]
            self._live = []
        return self._decision(frame, prompts, ended)

    def _decided(self, frame: int, tracked: TrackedFrame | None) -> tuple[dict[int, tuple[Detection, str]], list[int]]:
        """The prompts on a look with their reasons by object id, and ids of objects that end."""
        number, look = self._looks[frame]
        detections, now = look.detections, self._time_of(frame)
        ids = tracked.object_ids if tracked else ()
        masks, estimates = self._masks_of(tracked) if tracked else (np.zeros((0, *self._size), np.bool_), ())
        place = {object_id: n for n, object_id in enumerate(ids)}
        evidence = Evidence(detections, masks, estimates, [place.get(m.object_id) for m in self._live])
        without_mask = [m for m in self._live if m.ended]
        identified = [m for m, masklet in enumerate(self._live) if masklet.track_id is not None]
        taken, prompts = self._shown(number, detections, evidence, now)
        ended = self._ended(number, set(taken.values()), evidence, now)
        tracked_now = len(ids) - len(ended) + sum(not m.ended for m in without_mask)
        self._begin(number, detections, taken, evidence, prompts, now=now, tracked=tracked_now, identified=identified)
        return prompts, ended

    def _shown(
        self, number: int, detections: Sequence[Detection], evidence: Evidence, now: float
    ) -> tuple[dict[int, int], dict[int, tuple[Detection, str]]]:
        """The live masklets that detections show, by detection; and their prompts with the reason, by object id."""
        live, continuity = self._live, self._continuity
        iou = evidence.iou * may_be_one(detections, [m.last for m in live])
        known = self._of_identities(detections)
        scores = _without(iou + continuity.linked(number, live), known)
        taken = known | dict(best_matches(scores, least=MATCH))
        evidence.match(m for d, m in taken.items() if iou[d, m] >= MATCH)
        unmatched = [m for m in range(len(live)) if m not in set(taken.values())]
        lost = [m for m in unmatched if evidence.is_shadow(m) or live[m].unseen + 1 >= UNSEEN]
        free = [d for d in range(len(detections)) if d not in taken]
        taken |= continuity.found_again(number, free, live, lost)
        prompts = {}
        for d, m in taken.items():
            if iou[d, m] < MATCH:
                prompts[live[m].object_id] = (detections[d], "found again")
            elif iou[d, m] < REPAIR and (d in known or continuity.may_show(number, d, live[m])):
                prompts[live[m].object_id] = (detections[d], "repair")
            live[m].show(detections[d], seen=(number, d), now=now)
        return taken, prompts

    def _of_identities(self, detections: Sequence[Detection]) -> dict[int, int]:
        """Live masklets by the detection that has their identity."""
        live = {masklet.track_id: m for m, masklet in enumerate(self._live) if masklet.track_id is not None}
        return {d: live[each.track_id] for d, each in enumerate(detections) if each.track_id in live}

    def _ended(self, number: int, seen: set[int], evidence: Evidence, now: float) -> list[int]:
        """Ids of objects that end on this look. They stay live until they are retired: they may be found again."""
        ended, kept = [], []
        limit = self._settings.retire_after_s
        for m, masklet in enumerate(self._live):
            if m in seen:
                kept.append(masklet)
                continue
            masklet.unseen += 1
            present, shadow = evidence.is_present(m), evidence.is_shadow(m)
            if not shadow:
                masklet.present_s = now
            if self._last_looks.get(masklet.track_id or "", -1) > number:
                kept.append(masklet)
                continue
            wrong = present and (shadow or evidence.is_doubted(m))
            retired = limit is not None and not present and now - masklet.present_s >= limit
            if (retired and not masklet.ended) or (wrong and not self._continuity.is_seen_soon(number, masklet)):
                masklet.ended = True
                ended.append(masklet.object_id)
            if not retired:
                kept.append(masklet)
        self._live = kept
        return ended

    def _begin(
        self,
        number: int,
        detections: Sequence[Detection],
        taken: Mapping[int, int],
        evidence: Evidence,
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
                why = "on_an_object" if evidence.lies_on_a_mask(d, but=identified) else None
            else:
                why = self._not_begun(number, d, detection, evidence, [*begun, *(x for x, _ in prompts.values())])
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
        self, number: int, d: int, detection: Detection, evidence: Evidence, prompted: Sequence[Detection]
    ) -> str | None:
        """Why a detection begins no object; None if it does."""
        if evidence.lies_on_a_mask(d):
            return "on_an_object"
        iou, contained = overlaps(boxes_of([detection]), boxes_of(prompted))
        if prompted and max(float(iou.max()) / ON_ANOTHER, float(contained.max()) / 0.9) >= 1:
            return "on_an_object"
        sure = detection.score is not None and detection.score >= self._settings.confirm_score
        return None if sure or self._continuity.links.agrees(number, d) else "unconfirmed"

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


def _without(scores: npt.NDArray[np.float64], known: Mapping[int, int]) -> npt.NDArray[np.float64]:
    """The scores without those of detections and masklets whose match is known."""
    left = scores.copy()
    left[list(known), :] = 0
    left[:, list(known.values())] = 0
    return left
