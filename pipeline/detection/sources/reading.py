"""How detections of other tools are read: the options of every command that takes --detections."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pipeline.errors import UsageError

Size = tuple[int, int]
"""Height and width of the displayed frame, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the files do not say themselves.

    Raises:
        UsageError: A value is not allowed; the message names the option, the value and what is allowed.
    """

    coco_images: str | None = None
    """COCO file whose images and categories the results refer to."""
    name_pattern: str | None = None
    """Regular expression with the groups `video` and `frame` for names of pictures and label files."""
    first_frame: int | None = None
    """Number of a video's first frame in names and MOT files (default: 0; 1 in MOT files)."""
    names: str | None = None
    """File of class names: data.yaml, one name a line, or JSON."""
    map: tuple[tuple[str, str], ...] = ()
    """Categories by the names that they replace."""
    size: Size | None = None
    """Of the frames of all videos."""

    def __post_init__(self) -> None:
        if self.name_pattern is not None:
            try:
                groups = set(re.compile(self.name_pattern).groupindex)
            except re.error as error:
                raise UsageError(f"--name-pattern is {self.name_pattern!r}, no regular expression: {error}") from None
            if groups != {"video", "frame"}:
                raise UsageError(
                    f"--name-pattern is {self.name_pattern!r}; it must have the named groups video and frame, such as "
                    r"(?P<video>.+)_(?P<frame>\d+)\.jpg"
                )
        if self.first_frame is not None and self.first_frame < 0:
            raise UsageError(f"--first-frame is {self.first_frame}; allowed is 0 or more")
        twice = [name for at, (name, _) in enumerate(self.map) if name in dict(self.map[:at])]
        if twice:
            raise UsageError(f"--map gives {twice[0]!r} two categories; allowed is one")

    def check_mapped(self, seen: Collection[str]) -> None:
        """Refuse names of --map that no detection has.

        Raises:
            UsageError: There is one.
        """
        if unknown := sorted({name for name, _ in self.map} - set(seen)):
            have = ", ".join(sorted(seen)[:20]) or "none"
            raise UsageError(f"--map: no detection has the class {', '.join(unknown)}; the classes are {have}")


def parse_map(text: str) -> tuple[str, str]:
    """A name and the category that replaces it, from `name=category`.

    Raises:
        UsageError: It has another form.
    """
    name, equals, category = (part.strip() for part in text.partition("="))
    if not (name and equals and category):
        raise UsageError(f"--map is {text!r}; write name=category, such as sedan=car")
    return name, category


@dataclass(frozen=True, kw_only=True)
class Videos:
    """What is known of the videos that the detections are of."""

    ids: frozenset[str] | None = None
    """Their ids; None: those of the detections."""
    size_of: Callable[[str], Size | None] = lambda _: None
    """The size of a video's frames; None if it is unknown."""

    def know(self, video_id: str) -> bool:
        """Whether it is one of the videos."""
        return self.ids is None or video_id in self.ids
