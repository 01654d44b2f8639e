"""Names of files written for videos, from ids that are often paths."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

_MAX_LENGTH = 120


def file_names(video_ids: Iterable[str]) -> dict[str, str]:
    """A file name without suffix for each id: `hard/x.mp4` gives `hard-x`.

    Where a name would lose more than slashes and `.mp4`, or two ids would share it, a part of the id's SHA-256 follows.
    """
    plain = {video_id: re.sub(r"(?i)(?<=.)\.mp4$", "", video_id).replace("/", "-") for video_id in video_ids}
    safe = {video_id: re.sub(r"[^\w.\- ]+", "-", name).strip(". -")[:_MAX_LENGTH] for video_id, name in plain.items()}
    shared = Counter(name.casefold() for name in safe.values())
    return {
        video_id: name
        if name == plain[video_id] and shared[name.casefold()] == 1
        else f"{name}-{hashlib.sha256(video_id.encode()).hexdigest()[:8]}".lstrip("-")
        for video_id, name in safe.items()
    }
