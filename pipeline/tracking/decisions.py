"""Objects that begin, are prompted again and end while a video is tracked: the interface of who decides."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.tracking.objects import FramePrompt, TrackedFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """What changes on one frame."""

    prompts: Mapping[int, FramePrompt] = field(default_factory=dict)
    """By object id, ascending: of new objects, which begin on this frame, and of tracked ones, which it replaces."""
    ended: Collection[int] = ()
    """Objects without rows after this frame."""


class Decider(Protocol):
    """Decides on some frames of the forward pass, from what was tracked there."""

    @property
    def first(self) -> int | None:
        """The first frame that it wants to see; None if it wants to see none."""

    def looks_at(self, frame: int) -> bool: ...

    def decide(self, frame: int, tracked: TrackedFrame | None) -> Decision:
        """The changes on a frame; `tracked` has the objects that began before it, None if there is none."""

    def state(self) -> dict[str, Any]:
        """JSON values from which `restore` continues."""

    def restore(self, state: Mapping[str, Any]) -> None: ...
