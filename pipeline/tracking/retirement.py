"""Objects that end because they were absent for long, decided while a pass tracks them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.tracking.objects import TrackedObject
from pipeline.tracking.state import Rows
from pipeline.tracking.transfer import Ready
from pipeline.video.info import TOLERANCE_S


@dataclass(frozen=True, kw_only=True)
class RetirementRule:
    """When an object ends by itself.

    An object is absent on a frame if its object score is at most 0 or no logit of the model is above the threshold, and
    the frame has no prompt of it. It ends after the first absent frame that is `after_s` or more after the last frame
    on which it was present. It does not end while a correction comes before its next prompt, because a correction
    needs the memory of the frames before it.
    """

    after_s: float
    time_of: Callable[[int], float]
    """The time in seconds of a frame that was read."""
    mask_threshold: float = 0.0

    def __post_init__(self) -> None:
        if not self.after_s > 0:
            raise ValueError(f"Invalid after_s ({self.after_s}). It must be above 0.")


class Retirement:
    """The objects of one pass that have ended. Objects are given by their position."""

    def __init__(self, rule: RetirementRule) -> None:
        self._rule = rule
        self._started: dict[int, float] = {}
        """Time of every object's first prompt."""
        self._present: dict[int, float] = {}
        """Time of the last frame on which an object is known to be present."""
        self._until: dict[int, int | None] = {}
        """For objects that have ended the frame of the prompt that begins them again, or None."""
        self._unread: list[tuple[float, list[int], torch.Tensor]] = []
        """Presence on the frames since: on a GPU, it is downloaded only when an object may have to end."""

    def ended(self, position: int, frame: int) -> bool:
        """Whether the object has no row on the frame."""
        if position not in self._until:
            return False
        until = self._until[position]
        return until is None or frame < until

    def is_over(self, position: int) -> bool:
        """Whether the object has no later row in this pass."""
        return position in self._until and self._until[position] is None

    def since(self, position: int) -> int:
        """The frame from which the object has memories: that of the prompt that began it again, else 0."""
        return self._until.get(position) or 0

    def turn(self) -> None:
        """Begin the backward pass, which follows every object back from its first prompt."""
        self._read()
        self._until, self._present = {}, dict(self._started)

    def add(
        self, frame: int, active: Sequence[tuple[int, TrackedObject]], rows: Rows, ready: Ready | None, *, reverse: bool
    ) -> list[int]:
        """Note a tracked frame with its rows, one for each active object; returns the objects that end after it."""
        now = self._rule.time_of(frame)
        for i, o in active:
            if o.is_prompted(frame):
                self._present[i] = now
            if frame == o.start:
                self._started[i] = now
        self._note(now, [i for i, _ in active], rows, ready)
        due = [(i, o) for i, o in active if self._is_due(i, now)]
        if not due:
            return []
        self._read()
        gone = []
        for i, o in due:
            following = [t for t in (*o.prompts, *o.corrections) if (t < frame if reverse else t > frame)]
            following = sorted(following, reverse=reverse)[:1]
            if self._is_due(i, now) and not (following and following[0] in o.corrections):
                self._until[i] = following[0] if following else None
                gone.append(i)
        return gone

    def _is_due(self, position: int, now: float) -> bool:
        return abs(now - self._present[position]) >= self._rule.after_s - TOLERANCE_S

    def _note(self, now: float, positions: list[int], rows: Rows, ready: Ready | None) -> None:
        tensors = (rows.logits, rows.object_logit)
        with ready.reading(*tensors) if ready else nullcontext():
            present = (rows.object_logit > 0) & (rows.logits.amax(dim=(1, 2)) > self._rule.mask_threshold)
            self._unread.append((now, positions, present))

    def _read(self) -> None:
        if not self._unread:
            return
        flags = torch.cat([present for _, _, present in self._unread]).tolist()
        seen = ((i, now) for now, positions, _ in self._unread for i in positions)
        self._present |= {i: now for (i, now), flag in zip(seen, flags, strict=True) if flag}
        self._unread.clear()

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues."""
        self._read()
        return {
            "started": [*self._started.items()],
            "present": [*self._present.items()],
            "until": [*self._until.items()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._started, self._present, self._until = (dict(state[name]) for name in ("started", "present", "until"))
