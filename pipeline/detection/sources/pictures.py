"""Videos and frames from the names of pictures and label files."""

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import PurePosixPath

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.build.corpus import SUFFIXES
from pipeline.manifest.prompt_field import MAX_FRAME_INDEX

FORMS = "VIDEO_frame0000.jpg, VIDEO/00000.jpg or VIDEO_000123.png"
PATTERNS = (
    r"(?:.*/)?(?P<video>[^/]+?)[_-]frame[_-]?(?P<frame>\d+)",
    r"(?:.*/)?(?P<video>[^/]+)/(?:frame[_-]?)?(?P<frame>\d+)",
    r"(?:.*/)?(?P<video>[^/]+)_(?P<frame>\d+)",
)
"""Of paths without their suffix, tried in this order."""
NOT_VIDEOS = frozenset(("labels", "images", "image", "imgs", "img1", "frames", "JPEGImages"))
"""Folders that tools make inside that of a video: VIDEO/img1/000001.jpg."""
SUFFIX = re.compile(r"\.[A-Za-z]\w{1,7}")


class PictureNames:
    """Finds video and frame in names of pictures."""

    def __init__(self, pattern: str | None, *, first_frame: int = 0) -> None:
        self._pattern = re.compile(pattern) if pattern is not None else None
        self._patterns = [re.compile(each) for each in PATTERNS]
        self.first_frame = first_frame
        self.smallest: int | None = None
        """The smallest number of a frame so far."""

    def number(self, name: str) -> tuple[str, str]:
        """The video's name and the digits of the frame.

        Raises:
            ManifestError: The name has another form.
        """
        path = name.replace("\\", "/")
        if self._pattern is not None:
            found = self._pattern.fullmatch(path) or self._pattern.fullmatch(path.rpartition("/")[2])
            if found is None or not found["video"] or not (found["frame"] or "").isdecimal():
                raise ManifestError(f"{clip(name)} does not match --name-pattern {clip(self._pattern.pattern)}")
            return found["video"], found["frame"]
        stem = path[: -len(suffix)] if SUFFIX.fullmatch(suffix := PurePosixPath(path).suffix) else path
        plain = "/".join(part for part in stem.split("/") if part not in NOT_VIDEOS)
        for pattern in self._patterns:
            if (found := pattern.fullmatch(plain)) and len(found["frame"]) < 10:
                return found["video"], found["frame"]
        raise ManifestError(
            f"{clip(name)} is not named {FORMS}; --name-pattern tells the video and the frame of a name"
        )

    def frame(self, name: str) -> tuple[str, int]:
        """The video's name and the index of the frame.

        Raises:
            ManifestError: The name has another form, or its number is below that of the first frame.
        """
        video, digits = self.number(name)
        index = int(digits) - self.first_frame
        self.smallest = int(digits) if self.smallest is None else min(self.smallest, int(digits))
        if index < 0:
            raise ManifestError(f"{clip(name)} is frame {digits}, below --first-frame {self.first_frame}")
        if index > MAX_FRAME_INDEX:
            raise ManifestError(f"{clip(name)} is frame {digits}; the largest allowed is {MAX_FRAME_INDEX}")
        return video, index

    def counts_from_one(self, names: Iterable[str]) -> bool:
        """Whether names count frames as Ultralytics does for videos: from 1, without leading zeros."""
        digits = {self.number(name)[1] for name in names}
        return bool(digits) and not any(each.startswith("0") for each in digits)


def frame_of_picture(name: str) -> tuple[str, int]:
    """The video's name and the frame index from the name of a picture in one of FORMS.

    Raises:
        ManifestError: It has another name.
    """
    try:
        return PictureNames(None).frame(name)
    except ManifestError:
        raise ManifestError(f"{clip(name)} is not named {FORMS}, so its video and frame are unknown") from None


class VideoIds:
    """The ids of videos by the names that pictures and label files give them."""

    def __init__(self, known: Collection[str] | None) -> None:
        self._known = None if known is None else frozenset(known)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for video_id in sorted(self._known or ()):
            found.setdefault(_stem(video_id), []).append(video_id)
        return found

    def of(self, name: str) -> str:
        """The id: the name itself if it is one, else that of the one video whose file has this name.

        Raises:
            ManifestError: Several videos have it.
        """
        if self._known is None or name in self._known:
            return name
        found = self._by_stem.get(_stem(name), [name])
        if len(found) > 1:
            raise ManifestError(
                f"the name {clip(name)} fits the videos {', '.join(map(clip, found[:3]))}; a column video_id, or "
                "--name-pattern, tells them apart"
            )
        return found[0]


def _stem(name: str) -> str:
    """The last part of a path, without the suffix of a video."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
