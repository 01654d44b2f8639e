"""Corrections applied to a manifest: if both name an object and frame, the correction wins. Pure.

The frames of a correction count from the start of the labelled segment. If the manifest has another start_s for the
video, the frames differ, so the correction is not applied, and the plan reports it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest import PROMPT, SCHEMA, BadRow, Manifest, digest_records, read_manifest
from pipeline.runs.corrections.record import Correction, Corrections, PromptRecord

Place = tuple[int, int | None, float | None]

SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A manifest with its corrections."""

    manifest: Manifest
    """Rows whose corrections do not fit them are among its bad rows."""
    corrected: tuple[str, ...] = ()
    """Videos whose prompts differ from those of their row."""
    outdated: tuple[str, ...] = ()
    """Of these, videos whose row has changed since the correction was made."""
    frozen: tuple[str, ...] = ()
    """Of the corrected ones, videos whose prompts were decided from detections before they were corrected."""
    not_applied: tuple[str, ...] = ()
    """Corrections that do not apply, and why."""

    def notes(self) -> list[str]:
        """A plan's notes on corrections, one line each."""
        found = []
        if self.corrected:
            found.append(f"{_videos(len(self.corrected))} labelled with corrections (see jobs.review list)")
        if self.outdated:
            names = ", ".join(repr(video_id) for video_id in self.outdated[:SHOWN])
            found.append(
                f"{_videos(len(self.outdated))} corrected whose prompts in the manifest have changed since; where both "
                f"name an object and frame the correction wins: {names}{' ...' if len(self.outdated) > SHOWN else ''}"
            )
        found += self.not_applied[:SHOWN]
        if len(self.not_applied) > SHOWN:
            found.append(f"and {len(self.not_applied) - SHOWN} more corrections that are not applied")
        return found


def overlay_manifest(manifest: Manifest, corrections: Corrections) -> Overlay:
    """The manifest with its corrections, in the same order of rows.

    Rows that break a rule of manifests once they are corrected, or whose corrections cannot be read, are left out and
    listed in `bad_rows`: their labels are kept.
    """
    ids = manifest.table["video_id"]
    concerned = pa.array([*corrections.history, *corrections.damaged], pa.string())
    rows = np.flatnonzero(pc.is_in(ids, value_set=concerned).to_numpy())
    if not len(rows):
        return Overlay(manifest=manifest)
    records = manifest.table.select(["video_id", "video_uri", "prompts", "start_s"]).take(pa.array(rows)).to_pylist()
    changed: dict[int, list[PromptRecord]] = {}
    bad: dict[int, BadRow] = {}
    outdated, not_applied, decided = [], [], set()
    for row, record in zip(rows.tolist(), records, strict=True):
        video_id, prompts = record["video_id"], record["prompts"]
        if video_id in corrections.damaged:
            bad[row] = _bad_row(manifest, row, corrections.damaged[video_id])
            continue
        applied = []
        for each in corrections.in_force(video_id):
            if (each.start_s or 0) == (record["start_s"] or 0):  # null is the start of the file
                applied.append(each)
            else:
                not_applied.append(_other_segment(each, record["start_s"]))
        base = base_of(applied)
        overlaid = overlay_prompts(prompts if base is None else base, applied)
        if applied and digest_records([overlaid]) != digest_records([prompts]):
            changed[row] = overlaid
            if base is not None:
                decided.add(row)
            if is_outdated(prompts if base is None else base, applied):
                outdated.append(video_id)
    fitting, misfits = _checked(manifest, changed)
    bad |= misfits
    frozen = decided & fitting.keys()
    table = _without_detections(_replace_prompts(manifest.table, fitting), frozen)
    return Overlay(
        manifest=replace(manifest, table=table).without(bad),
        corrected=tuple(ids[row].as_py() for row in fitting),
        frozen=tuple(ids[row].as_py() for row in sorted(frozen)),
        outdated=tuple(outdated),
        not_applied=tuple(not_applied),
    )


def overlay_prompts(prompts: Sequence[Mapping[str, Any]], corrections: Sequence[Correction]) -> list[PromptRecord]:
    """The prompts of one video with its corrections; an object's category is the last one that a correction gives."""
    found: dict[Place, Mapping[str, Any]] = {place_of(prompt): prompt for prompt in prompts}
    for correction in corrections:
        for gone in correction.removed:
            found.pop(place_of(gone), None)
        found |= {place_of(prompt): prompt for prompt in correction.prompts}
    given = [*prompts, *(prompt for correction in corrections for prompt in correction.prompts)]
    categories = {prompt["object_id"]: name for prompt in given if (name := prompt.get("category"))}
    return [{**prompt, "category": categories.get(prompt["object_id"])} for prompt in found.values()]


def current_prompts(corrections: Corrections) -> Callable[[str, Sequence[Mapping[str, Any]]], list[PromptRecord]]:
    """A function that gives the prompts of a video, by its id and those of its labels, with its corrections."""
    return lambda video_id, prompts: overlay_prompts(prompts, corrections.in_force(video_id))


def base_of(corrections: Sequence[Correction]) -> Sequence[PromptRecord] | None:
    """The prompts that were decided from detections before the first of these corrections; None if none were."""
    return next((each.base for each in corrections if each.base is not None), None)


def place_of(prompt: Mapping[str, Any]) -> Place:
    """Identity of a prompt within its video: object, and frame or time."""
    return prompt["object_id"], prompt.get("frame_index"), prompt.get("time_s")


def is_outdated(prompts: Sequence[Mapping[str, Any]], corrections: Sequence[Correction]) -> bool:
    """Whether a correction was made from prompts other than these with the corrections before it."""
    before = [overlay_prompts(prompts, corrections[:i]) for i in range(len(corrections))]
    return digest_records(before) != [each.over for each in corrections]


def _checked(
    manifest: Manifest, changed: dict[int, list[PromptRecord]]
) -> tuple[dict[int, pa.Scalar], dict[int, BadRow]]:
    """By row of the manifest: the corrected prompts in canonical order, and the rows that break a rule with them."""
    at = list(changed)
    table = manifest.table.select(["video_id", "video_uri"]).take(pa.array(at, pa.int64()))
    table = table.append_column("prompts", pa.array(changed.values(), pa.list_(PROMPT)))
    checked = read_manifest(table, on_bad_row="skip")
    prompts = checked.table["prompts"]
    good = {at[row]: prompts[i] for i, row in enumerate(checked.rows.tolist())}
    bad = {
        at[each.row]: manifest.bad_row(
            at[each.row],
            column=each.column,
            value=each.value,
            rule=f"{each.rule} (after its corrections: jobs.review list)",
        )
        for each in checked.bad_rows
    }
    return good, bad


def _replace_prompts(table: pa.Table, new: dict[int, pa.Scalar]) -> pa.Table:
    """The table with other prompts in these rows; only chunks that hold such a row are copied."""
    chunks, start, rows = [], 0, sorted(new)
    for chunk in table["prompts"].chunks:
        inside = [row for row in rows if start <= row < start + len(chunk)]
        if inside:
            index = np.arange(len(chunk))
            index[np.array(inside) - start] = len(chunk) + np.arange(len(inside))
            values = pa.array([new[row].as_py() for row in inside], chunk.type)
            chunk = pa.concat_arrays([chunk, values]).take(pa.array(index))
        chunks.append(chunk)
        start += len(chunk)
    column = table.schema.get_field_index("prompts")
    return table.set_column(column, SCHEMA.field("prompts"), pa.chunked_array(chunks, table["prompts"].type))


def _without_detections(table: pa.Table, rows: Collection[int]) -> pa.Table:
    """The table without the detections of these rows."""
    if not rows:
        return table
    at, chosen = table.schema.get_field_index("detections"), np.zeros(table.num_rows, np.bool_)
    chosen[list(rows)] = True
    kept = pc.if_else(pa.array(chosen), pa.scalar(None, pa.string()), table["detections"])
    return table.set_column(at, SCHEMA.field("detections"), kept)


def _bad_row(manifest: Manifest, row: int, reason: str) -> BadRow:
    rule = f"its correction cannot be used ({reason}); the video keeps the labels that it has"
    return manifest.bad_row(row, column="prompts", value="", rule=rule)


def _other_segment(correction: Correction, start_s: Any) -> str:
    return (
        f"correction {correction.name} of {correction.video_id!r} is not applied: it was made for start_s "
        f"{correction.start_s}, the manifest has {start_s}"
    )


def _videos(count: int) -> str:
    return f"{count} video is" if count == 1 else f"{count} videos are"
