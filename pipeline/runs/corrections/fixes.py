"""Fixes become corrections: differences from the current prompts of their videos."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from pipeline.errors import CorpusError, UsageError
from pipeline.manifest import PROMPT, digest_records, prompts_from_json
from pipeline.runs.corrections.fix import Fix, canonical, check_fit, wanted_prompts
from pipeline.runs.corrections.overlay import base_of, overlay_prompts, place_of
from pipeline.runs.corrections.record import (
    Correction,
    Corrections,
    PromptRecord,
    iso,
    read_corrections,
    write_correction,
)
from pipeline.storage import Store
from pipeline.storage.names import next_name
from pipeline.tables import dataset

LABELLED = (
    *("video_id", "label_key", "uri", "start_s", "end_s", "version", "prompts", "detections_digest"),
    *("height", "width", "frames", "label_rate", "parameters"),
)
SAME = ("start_s", "end_s", "version")
"""What a fix may state of the video that it was made for, and the labels must still have."""
REVIEWED_PROMPTS = "reviewed_prompts"
"""Field of a line: digest of the reviewed prompts, so that a later change is not undone."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Result of applying fixes."""

    corrections: tuple[Correction, ...]
    unchanged: int
    """Videos whose prompts already equal their fixes."""
    categories_only: tuple[str, ...]
    """Corrected videos with changes of categories only: their label keys stay the same, so they are not relabelled."""
    left_out: tuple[str, ...]
    """Unusable fixes, with the reason."""


def apply_fixes(store: Store, fixes: Sequence[Fix], *, who: str, now: datetime, dry_run: bool = False) -> Applied:
    """Store the changes of the fixes as corrections of the output; the next run labels these videos again.

    Complete prompts replace those of their video: a prompt that they do not have is removed. Changes of some prompts
    leave the others as they are, and a video may have several of them, one after another. Applying the same fixes again
    changes nothing.

    Raises:
        UsageError: Nothing is published there.
        StorageError: The output cannot be read or written.
    """
    ids = [str(fix.record.get("video_id")) for fix in fixes]
    labelled = labelled_prompts(store, ids)
    existing = read_corrections(store, among=ids)
    corrections, left_out, categories_only, unchanged = [], [], [], 0
    complete: set[str] = set()
    for fix, video_id in zip(fixes, ids, strict=True):
        try:
            if fix.is_complete and video_id in complete:
                raise UsageError("an earlier line has complete prompts of this video, too; one such line is allowed")
            complete |= {video_id} if fix.is_complete else set()
            found = _difference(fix, labelled.get(video_id), existing, who=who, now=now)
        except CorpusError as error:
            left_out.append(f"{fix.where}, video {video_id!r}: {error}")
            continue
        if found is None:
            unchanged += 1
            continue
        correction, same_masks = found
        corrections.append(correction)
        existing.history.setdefault(video_id, []).append(correction)
        categories_only += [video_id] if same_masks else []
        if not dry_run:
            write_correction(store, correction)
    return Applied(
        corrections=tuple(corrections),
        unchanged=unchanged,
        categories_only=tuple(categories_only),
        left_out=tuple(left_out),
    )


def labelled_prompts(store: Store, video_ids: Iterable[str], *, more: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Rows of the videos table by video id, with the columns of LABELLED and `more`; `prompts` as JSON, null in old
    labels.

    Raises:
        UsageError: Nothing is published there.
    """
    found = dataset(store, "videos")
    if found is None:
        raise UsageError(f"{store} holds no published labels; publish them first: python -m jobs.publish {store}")
    columns = [name for name in (*LABELLED, *more) if name in found.schema.names]
    chosen = ds.field("video_id").isin(pa.array(list(video_ids), pa.string()))
    return {row["video_id"]: row for row in found.to_table(columns=columns, filter=chosen).to_pylist()}


def _difference(
    fix: Fix, labelled: Mapping[str, Any] | None, existing: Corrections, *, who: str, now: datetime
) -> tuple[Correction, bool] | None:
    """The correction from a video's prompts to its fix, and whether its masks stay the same; None for no change."""
    if labelled is None:
        raise UsageError("it has no published labels, so there is nothing to correct; change its manifest instead")
    video_id = labelled["video_id"]
    if video_id in existing.damaged:
        raise UsageError(f"an earlier correction cannot be used: {existing.damaged[video_id]}")
    if not labelled.get("prompts"):
        raise UsageError("its labels are older than the prompts kept with them; label it again first")
    for name in SAME:
        if name in fix.record and fix.record[name] != labelled[name]:
            raise UsageError(f"{name} is {fix.record[name]}, its labels have {labelled[name]}; only prompts can change")
    kept = canonical(prompts_from_json(labelled["prompts"]), labelled)
    current = overlay_prompts(kept, existing.in_force(video_id))
    names = {prompt["object_id"]: prompt["category"] for prompt in current}
    wanted = [
        {**prompt, "category": prompt["category"] or names.get(prompt["object_id"])}
        for prompt in overlay_prompts(wanted_prompts(fix, current, labelled), [])
    ]
    old, new = ({place_of(prompt): prompt for prompt in _plain(prompts)} for prompts in (current, wanted))
    changed = [_without_category(prompt, names) for place, prompt in new.items() if prompt != old.get(place)]
    removed = [prompt for place, prompt in old.items() if place not in new]
    if not (changed or removed):
        return None
    check_fit(changed, wanted, labelled)
    before, after = digest_records([current, wanted])
    if fix.record.get(REVIEWED_PROMPTS, before) != before:
        raise UsageError("its prompts have changed since this review was written; write the review again")
    correction = Correction(
        video_id=video_id,
        name=next_name([each.name for each in existing.history.get(video_id, ())], now),
        time=iso(now),
        who=who,
        start_s=labelled["start_s"],
        base=kept if labelled.get("detections_digest") else base_of(existing.in_force(video_id)),
        over=before,
        prompts=changed,
        removed=[
            {k: prompt[k] for k in ("object_id", "frame_index", "time_s") if prompt[k] is not None}
            for prompt in removed
        ],
    )
    return correction, before == after


def _plain(prompts: Sequence[PromptRecord]) -> list[PromptRecord]:
    """The prompts with all fields of the manifest, in its types; JSON may lack some fields."""
    found: list[PromptRecord] = pa.array(prompts, PROMPT).to_pylist()
    return found


def _without_category(prompt: PromptRecord, names: Mapping[int, str | None]) -> PromptRecord:
    """The prompt, with its category only if it changes, so that later changes in the manifest apply."""
    return prompt | {"category": None} if prompt["category"] == names.get(prompt["object_id"]) else prompt
