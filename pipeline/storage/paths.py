"""Where things lie below an output: names that no video id can climb out of, hide in or collide through."""

import hashlib
import re
from urllib.parse import quote, unquote

from pipeline.errors import UsageError

PARTS = "parts"
FAILURES = "failures"
CHECKPOINTS = "checkpoints"
SHARDS = tuple(f"{i:02x}" for i in range(256))
MAX_QUOTED_ID_BYTES = 200
"""A file name may be 255 bytes on every file system that matters; the rest is left for temporary names."""
_KEY = re.compile(r"[0-9A-Za-z]{1,128}")


def quote_id(video_id: str) -> str:
    """The id as one path segment: percent-quoted, also a leading '.' ('..' must not climb) or '_' (readers skip it)."""
    if not video_id:
        raise UsageError("video_id is empty; it must have at least one character")
    quoted = quote(video_id, safe="")
    if quoted[0] in "._":
        quoted = f"%{ord(quoted[0]):02X}{quoted[1:]}"
    if len(quoted) > MAX_QUOTED_ID_BYTES:
        raise UsageError(
            f"video_id {video_id[:40]!r}... takes {len(quoted)} bytes percent-quoted; "
            f"at most {MAX_QUOTED_ID_BYTES} are allowed"
        )
    return quoted


def unquote_id(segment: str) -> str:
    return unquote(segment, errors="strict")


def video_dir(video_id: str) -> str:
    """HH/VIDEO: 256 even shards, so that listings and rate limits spread."""
    return f"{hashlib.sha256(video_id.encode()).hexdigest()[:2]}/{quote_id(video_id)}"


def part_path(video_id: str, key: str) -> str:
    return f"{PARTS}/{video_dir(video_id)}/{_checked(key)}.parquet"


def failure_path(video_id: str, key: str) -> str:
    return f"{FAILURES}/{video_dir(video_id)}/{_checked(key)}.json"


def checkpoint_dir(video_id: str, key: str) -> str:
    return f"{CHECKPOINTS}/{video_dir(video_id)}/{_checked(key)}"


def parse_path(path: str) -> tuple[str, str] | None:
    """(video_id, key) of a part, failure or anything in a checkpoint; None for a path that is none of them."""
    pieces = path.split("/")
    if len(pieces) < 4 or pieces[0] not in (PARTS, FAILURES, CHECKPOINTS):
        return None
    key = pieces[3].partition(".")[0]
    if not _KEY.fullmatch(key) or (pieces[0] != CHECKPOINTS and len(pieces) != 4):
        return None
    return unquote_id(pieces[2]), key


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"label key {key!r} is not a plain hexadecimal name")
    return key
