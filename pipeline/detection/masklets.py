"""What association knows of an object between two looks."""

from dataclasses import dataclass

from pipeline.detection.looks import BoxSides, Detection


@dataclass(kw_only=True)
class Masklet:
    """An object that association began."""

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
    ended: bool = False
    """It has no mask until a look finds it again."""
    track_id: str | None = None
    """The identity that a tracker gave."""

    @property
    def last(self) -> Detection:
        """The last detection that showed it, without its score."""
        return Detection(box=self.box, category=self.category, track_id=self.track_id)

    def show(self, detection: Detection, *, seen: tuple[int, int], now: float) -> None:
        """Take note of a detection that shows it."""
        self.box, self.seen, self.present_s = detection.box, seen, now
        self.track_id = self.track_id or detection.track_id
        self.unseen, self.ended = 0, False
