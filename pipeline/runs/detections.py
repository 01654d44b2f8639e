"""The detections of a manifest's videos, as planning needs them: digests, and what is wrong with their tables."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.digests import TableDigests, digests_by_table
from pipeline.errors import ManifestError, UsageError
from pipeline.manifest import BadRow, Manifest
from pipeline.manifest.bad_rows import clip, refuse_rows
from pipeline.runs.config import RunConfig
from pipeline.storage import redact

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A manifest with the digests of its detections."""

    manifest: Manifest
    """Rows whose detections cannot be used are among its bad rows."""
    digests: pa.Array
    """For each row; null where it names no detections."""
    notes: tuple[str, ...] = ()


def fill_detections(manifest: Manifest, uri: str | None) -> Manifest:
    """The manifest with this table in the rows that name none."""
    if uri is None:
        return manifest
    at = manifest.table.schema.get_field_index("detections")
    filled = pc.coalesce(manifest.table["detections"], pa.scalar(uri, pa.string()))
    return replace(manifest, table=manifest.table.set_column(at, manifest.table.schema.field(at), filled))


def read_digests(manifest: Manifest, config: RunConfig, open_file: Callable[[str], BinaryIO]) -> Detected:
    """The digests of all detections that the manifest names.

    Raises:
        ManifestError: A table cannot be used, or has bad rows, or lacks a video, and bad rows are not to be left out.
        UsageError: None of the wanted classes is in the tables.
    """
    if config.detection is not None:  # this run makes them
        return Detected(manifest=manifest, digests=pa.nulls(len(manifest), pa.string()))
    column, ids = manifest.table["detections"], manifest.table["video_id"]
    if column.null_count < len(column):
        _check_direction(config)
    digests: list[str | None] = [None] * len(manifest)
    bad: dict[int, BadRow] = {}
    notes: list[str] = []
    categories: set[str] = set()
    for uri, rows, found in digests_by_table(column, ids, open_file=open_file):
        if isinstance(found, ManifestError):
            if config.on_bad_row == "fail":
                raise found
            rule = f"its detections cannot be read: {found}"
            bad |= {row: _bad_row(manifest, row, uri, rule) for row in rows.tolist()}
            continue
        if found.bad and config.on_bad_row == "fail":
            raise ManifestError(f"{redact(uri)}: {_bad_text(found)}")
        notes += _notes(uri, found)
        categories |= found.categories
        for row, digest in zip(rows.tolist(), found.digests.to_pylist(), strict=True):
            digests[row] = digest
            if digest is None:
                rule = "its table of detections has no row of this video; a look that saw nothing is a row without box"
                bad[row] = _bad_row(manifest, row, uri, rule)
    if bad and config.on_bad_row == "fail":
        refuse_rows(list(bad.values()))
    notes += _unknown_classes(config, categories) if column.null_count < len(column) else []
    kept = [digest for row, digest in enumerate(digests) if row not in bad]
    return Detected(
        manifest=manifest.without(bad),
        digests=pa.array(kept, pa.string()),
        notes=tuple(notes),
    )


def _check_direction(config: RunConfig) -> None:
    """Refuse directions in which objects cannot be decided while tracking.

    Raises:
        UsageError: The direction is backward, or both with masks that must not overlap.
    """
    if config.parameters.direction == "backward":
        raise UsageError("--direction is 'backward'; allowed with detections: forward, both")
    if config.parameters.direction == "both" and config.parameters.non_overlapping:
        raise UsageError("--non-overlapping is allowed with detections in --direction forward alone")


def _bad_row(manifest: Manifest, row: int, uri: str, rule: str) -> BadRow:
    return manifest.bad_row(row, column="detections", value=clip(redact(uri)), rule=rule)


def _bad_text(found: TableDigests) -> str:
    lines = [f"{found.bad} of {found.rows} detections break a rule (rows count from 0)"]
    lines += [f"  {row}" for row in found.bad_rows[:SHOWN]]
    return "\n".join(lines)


def _notes(uri: str, found: TableDigests) -> list[str]:
    notes = []
    if found.bad:
        notes.append(f"{redact(uri)}: {_bad_text(found)}\n  they are left out")
    if found.others:
        notes.append(
            f"{redact(uri)}: {found.others} of {found.rows} detections are of videos that are not in the manifest"
        )
    return notes


def _unknown_classes(config: RunConfig, categories: set[str]) -> list[str]:
    missing = sorted(set(config.association.classes) - categories)
    if not missing:
        return []
    known = ", ".join(sorted(categories)[:20]) or "none"
    text = f"no detection has the class {', '.join(missing)}; the tables have {known}"
    if len(missing) == len(config.association.classes):
        raise UsageError(f"--classes: {text}")
    return [text]
