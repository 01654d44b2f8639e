"""A fix: what a reviewer wants the prompts of one video to be.

A line of JSON with `video_id`, and either all its prompts, as jobs.review writes them:

    {"video_id": "cat", "prompts": [...], "reviewed_prompts": "..."}

or the changes alone, as the player of a report gives them: prompts that are new or replace the one of the same object
and frame, and the places of removed ones:

    {"video_id": "cat", "changed": [{"object_id": 1, "frame_index": 40, "points": [...]}],
     "removed": [{"object_id": 2, "frame_index": 7}]}
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.errors import ManifestError, UsageError
from pipeline.manifest import PROMPT, kinds_of, read_manifest
from pipeline.manifest.kinds import to_prompt
from pipeline.runs.corrections.overlay import place_of
from pipeline.runs.corrections.record import PromptRecord, where_of
from pipeline.storage.uris import expanded

CHANGES = ("changed", "removed")
_FORMS = "each line is an object with video_id and either prompts (all of them), or changed and removed"


@dataclass(frozen=True, kw_only=True)
class Fix:
    """The complete prompts of one video, or changes of some of them."""

    where: str
    """File and line, for messages."""
    record: Mapping[str, Any]

    @property
    def is_complete(self) -> bool:
        """Whether the fix has all prompts of its video, and not only changes."""
        return not any(name in self.record for name in CHANGES)


def read_fixes(path: str) -> list[Fix]:
    """The fixes in a file of JSON lines, or of one JSON object or list; "-" reads the standard input.

    Raises:
        UsageError: The file cannot be read, or a line is not a fix.
    """
    try:
        text = sys.stdin.read() if path == "-" else expanded(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the corrections in {path}: {error}") from None
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, list) and whole:
        return [_checked(record, f"{path}, item {number}") for number, record in enumerate(whole, start=1)]
    if isinstance(whole, dict):
        return [_checked(whole, f"{path}, line 1")]
    lines = enumerate(text.splitlines(), start=1)
    return [_parsed(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def wanted_prompts(fix: Fix, current: Sequence[PromptRecord], labelled: Mapping[str, Any]) -> list[PromptRecord]:
    """All prompts of the video as the fix wants them, in the types of the manifest.

    Args:
        fix: the fix.
        current: the video's prompts now, with earlier corrections.
        labelled: the video's row of the videos table.

    Raises:
        UsageError: They break a rule of manifests, or a removed prompt is not there.
    """
    if fix.is_complete:
        return canonical(fix.record.get("prompts"), labelled)
    if "prompts" in fix.record:
        raise UsageError("has both prompts and changes of them; allowed is either prompts, or changed and removed")
    changed, removed = (_records(fix, name) for name in CHANGES)
    there = {place_of(prompt): prompt for prompt in current}
    for each in removed:
        if place_of(each) not in there:
            known = ", ".join(where_of(prompt) for prompt in current[:8]) + (" ..." if len(current) > 8 else "")
            raise UsageError(f"removed: the video has no prompt of {where_of(each)}; it has {known}")
    gone = {place_of(each) for each in [*changed, *removed]}
    names = {each["object_id"]: each["category"] for each in changed if each.get("category")}
    kept = [
        {**prompt, "category": names.get(prompt["object_id"], prompt["category"])}
        for place, prompt in there.items()
        if place not in gone
    ]
    return canonical([*kept, *changed], labelled)


def canonical(prompts: Any, labelled: Mapping[str, Any]) -> list[PromptRecord]:
    """Prompts as the manifest's reader gives them.

    Raises:
        UsageError: They break a rule of manifests; the message names object and frame.
    """
    row = {"video_id": labelled["video_id"], "video_uri": labelled["uri"], "prompts": prompts}
    try:
        manifest = read_manifest(pa.Table.from_pylist([row]), on_bad_row="skip")
    except (pa.ArrowException, ManifestError, TypeError, ValueError) as error:
        raise UsageError(f"{_culprit(prompts)}prompts are no list of prompts: {error}") from None
    for bad in manifest.bad_rows:
        inside = re.match(r"prompts\[(\d+)\]", bad.column)
        place = f"{where_of(prompts[int(inside[1])])}, " if inside else ""
        raise UsageError(f"{place}{bad.column}, value {bad.value}: {bad.rule}")
    found: list[PromptRecord] = manifest.table["prompts"][0].as_py()
    return found


def check_fit(changed: Sequence[PromptRecord], wanted: Sequence[PromptRecord], labelled: Mapping[str, Any]) -> None:
    """Check changed prompts against the frames of their video, as far as its labels tell.

    Raises:
        UsageError: One lies outside the frame, has a mask of another size, or is on a frame beyond the last one.
    """
    frames = labelled["frames"] if _is_whole(wanted, labelled) else None
    for record in changed:
        frame = record["frame_index"]
        if frames is not None and frame is not None and frame >= frames:
            raise UsageError(f"{where_of(record)}: the video has frames 0 to {frames - 1}")
        if labelled["height"] and labelled["width"]:
            for kind, value in kinds_of(to_prompt(record)):
                for misfit in kind.misfits(value, (labelled["height"], labelled["width"])):
                    raise UsageError(f"{where_of(record)}: {misfit}")


def _is_whole(prompts: Sequence[PromptRecord], labelled: Mapping[str, Any]) -> bool:
    """Whether the labels have all frames of the video: not a label rate, nor the frames up to an end or a prompt."""
    if not labelled["frames"] or labelled.get("label_rate"):
        return False
    ends = any(prompt.get(name) is not None for prompt in prompts for name in ("until_frame", "until_s"))
    return not ends and json.loads(labelled.get("parameters") or "{}").get("direction") != "backward"


def _records(fix: Fix, name: str) -> list[PromptRecord]:
    found = fix.record.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError(f"{name} is no list of prompts; {_FORMS}")
    for each in found:
        if not isinstance(each.get("object_id"), int) or (each.get("frame_index"), each.get("time_s")) == (None, None):
            raise UsageError(f"{name}: {each} has no object_id, or neither frame_index nor time_s")
    return found


def _culprit(prompts: Any) -> str:
    """Object and frame of the first prompt that has a value of a wrong type."""
    for each in prompts if isinstance(prompts, list) else []:
        try:
            pa.array([each], PROMPT)
        except (pa.ArrowException, TypeError, ValueError):
            return f"{where_of(each)}: "
    return ""


def _parsed(line: str, where: str) -> Fix:
    try:
        return _checked(json.loads(line), where)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{where} is not JSON: {error}; give the prompts.jsonl of a review, or what the player of a report gives"
        ) from None


def _checked(record: Any, where: str) -> Fix:
    if not isinstance(record, dict) or not isinstance(record.get("video_id"), str):
        raise UsageError(f"{where} has no video_id; {_FORMS}")
    return Fix(where=where, record=record)
