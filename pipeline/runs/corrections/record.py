"""Corrections as create-only JSON records: OUTPUT/corrections/HH/VIDEO/NAME.json.

A record either corrects prompts of its video or removes an earlier correction. No record is overwritten or deleted, so
the history shows who made and who removed each correction.
"""

import getpass
import json
import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StorageError, UsageError
from pipeline.storage import Store
from pipeline.storage.names import NAME, next_name
from pipeline.storage.ownership import is_ours
from pipeline.storage.paths import CORRECTIONS, correction_path, unquote_id

FORMAT = 2
"""Of corrections with `base`; the others keep format 1, so that earlier releases read them."""
READERS = 32

PromptRecord = dict[str, Any]
"""A prompt as the manifest's `prompts` column holds it; absent fields may be missing."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Prompts of one video that replace those of the manifest, by object and frame (or time)."""

    video_id: str
    name: str
    """Names sort by time."""
    time: str
    """UTC, ISO 8601."""
    who: str
    over: str
    """Digest of the prompts that were corrected, earlier corrections included."""
    prompts: Sequence[PromptRecord]
    """Prompts that are new or replace one of the same object and frame; category only where it changes."""
    removed: Sequence[PromptRecord]
    """object_id and frame_index or time_s of removed prompts."""
    start_s: float | None = None
    """Start of the labelled segment, from which frame_index counts."""
    base: Sequence[PromptRecord] | None = None
    """Prompts that were decided from detections and are corrected; the video is labelled from them, not from its
    detections."""
    taken_back: str | None = None
    """Who removed this correction, and when; None while it applies."""

    def summary(self) -> str:
        """Its prompts in one line."""
        said = [f"{where_of(prompt)} set" for prompt in self.prompts] + [f"{where_of(p)} removed" for p in self.removed]
        return "; ".join(said[:6]) + (f"; and {len(said) - 6} more" if len(said) > 6 else "")


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """The corrections of some videos."""

    history: dict[str, list[Correction]] = field(default_factory=dict)
    """By video id, oldest first; removed ones included."""
    damaged: dict[str, str] = field(default_factory=dict)
    """By video id, why one of its records cannot be used."""

    def in_force(self, video_id: str | None = None) -> list[Correction]:
        """The corrections of a video, or of all videos, without removed ones; of each video the oldest first."""
        chosen = self.history.values() if video_id is None else [self.history.get(video_id, [])]
        return [each for history in chosen for each in history if each.taken_back is None]


def read_corrections(store: Store, *, among: pa.ChunkedArray | Collection[str] | None = None) -> Corrections:
    """The corrections stored in an output.

    Args:
        store: the output.
        among: only those of these video ids.

    Raises:
        StorageError: The output cannot be read.
    """
    found: dict[str, list[str]] = {}
    for entry in store.list(CORRECTIONS):
        if is_ours(entry.path):
            _, _, video, name = entry.path.removesuffix(".json").split("/")
            if NAME.fullmatch(name):
                found.setdefault(unquote_id(video), []).append(name)
    if among is not None:
        wanted = pa.chunked_array([among], pa.string()) if not isinstance(among, pa.ChunkedArray) else among
        inside = pc.is_in(pa.array(found, pa.string()), value_set=wanted).to_pylist()
        found = {video_id: names for (video_id, names), keep in zip(found.items(), inside, strict=True) if keep}
    pairs = [(video_id, name) for video_id, names in sorted(found.items()) for name in sorted(names)]
    with ThreadPoolExecutor(READERS) as threads:
        contents = threads.map(lambda pair: store.read_or_none(correction_path(*pair)), pairs)
        records = [(pair, data) for pair, data in zip(pairs, contents, strict=True) if data is not None]
    return _corrections(records)


def write_correction(store: Store, correction: Correction) -> None:
    """Store a correction; every later plan applies it."""
    record = {
        "kind": "correction",
        "time": correction.time,
        "who": correction.who,
        "start_s": correction.start_s,
        "over": correction.over,
        "prompts": [{k: v for k, v in prompt.items() if v is not None} for prompt in correction.prompts],
        "removed": list(correction.removed),
    }
    if correction.base is not None:
        record["base"] = [{k: v for k, v in prompt.items() if v is not None} for prompt in correction.base]
    _write(store, correction.video_id, correction.name, record)


def remove_corrections(store: Store, corrections: Iterable[Correction], *, who: str, now: datetime) -> None:
    """Record that these corrections no longer apply."""
    for each in corrections:
        name = next_name([each.name], now)
        record = {"kind": "removal", "time": iso(now), "who": who, "removes": each.name}
        _write(store, each.video_id, name, record)


def current_user() -> str:
    """USER@HOST of this process; "unknown" for an account without a name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without an entry in the passwd file
        user = "unknown"
    return f"{user}@{os.uname().nodename}"


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _write(store: Store, video_id: str, name: str, record: dict[str, Any]) -> None:
    stated = FORMAT if "base" in record else 1
    content = json.dumps({"format": stated, "video_id": video_id, **record}, indent=1).encode()
    if not store.commit_once(correction_path(video_id, name), content):
        raise StorageError(f"{store}/{correction_path(video_id, name)} exists already; run the command again")


def _corrections(records: Iterable[tuple[tuple[str, str], bytes]]) -> Corrections:
    found = Corrections()
    removals: dict[tuple[str, str], str] = {}
    for (video_id, name), data in records:
        try:
            record = _checked(json.loads(data), video_id)
            if record["kind"] == "removal":
                removals[video_id, record["removes"]] = f"{record['who']} at {record['time']}"
                continue
            kept = {key: record[key] for key in ("time", "who", "start_s", "over", "prompts", "removed")}
            made = Correction(video_id=video_id, name=name, base=record.get("base"), **kept)
            found.history.setdefault(video_id, []).append(made)
        except (ValueError, KeyError, TypeError, UsageError) as error:
            found.damaged[video_id] = f"{correction_path(video_id, name)}: {_reason(error)}"
    for video_id, history in found.history.items():
        found.history[video_id] = [
            Correction(**{**vars(each), "taken_back": removals.get((video_id, each.name))}) for each in history
        ]
    return found


def _checked(record: Any, video_id: str) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("kind") not in ("correction", "removal"):
        raise UsageError("not a record of a correction")
    if record["format"] > FORMAT:
        raise UsageError(f"has format {record['format']}; this version reads up to {FORMAT}: upgrade sam2-corpus")
    if record["video_id"] != video_id:
        raise UsageError(f"belongs to video {record['video_id']!r}")
    return record


def _reason(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def where_of(prompt: Any) -> str:
    """Object and frame of a prompt's record, which may lack either."""
    if not isinstance(prompt, dict):
        return f"prompt {prompt!r}"
    frame, time_s = prompt.get("frame_index"), prompt.get("time_s")
    at = f"frame {frame}" if frame is not None else f"{time_s:g} s" if isinstance(time_s, int | float) else "no frame"
    return f"object {prompt.get('object_id')} at {at}"
