"""The detections of a manifest's videos, as planning needs them: digests, and what is wrong with their tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.digests import TableDigests, digests_by_table, table_digests
from pipeline.detection.sources.reading import Reading
from pipeline.errors import CorpusError, ManifestError, UsageError
from pipeline.manifest import BadRow, Manifest
from pipeline.manifest.bad_rows import clip, refuse_rows
from pipeline.runs.config import READING_NAMES, RunConfig
from pipeline.storage import Storage, Store, redact
from pipeline.storage.parquet import to_parquet
from pipeline.storage.paths import run_detections_path
from pipeline.video.content import open_uri

SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A manifest with the digests of its detections."""

    manifest: Manifest
    """Rows whose detections cannot be used are among its bad rows."""
    digests: pa.Array
    """For each row; null where it names no detections."""
    notes: tuple[str, ...] = ()
    adapted: Mapping[str, pa.Table] = field(default_factory=dict)
    """By URI the detections of the manifest's videos that workers cannot read there themselves."""


def fill_detections(manifest: Manifest, uri: str | None) -> Manifest:
    """The manifest with this table in the rows that name none."""
    if uri is None:
        return manifest
    at = manifest.table.schema.get_field_index("detections")
    filled = pc.coalesce(manifest.table["detections"], pa.scalar(uri, pa.string()))
    return replace(manifest, table=manifest.table.set_column(at, manifest.table.schema.field(at), filled))


def store_adapted(
    manifest: Manifest, adapted: Mapping[str, pa.Table], store: Store, run_id: str, *, pending: pa.ChunkedArray
) -> Manifest:
    """Write detections that workers cannot read themselves as one table of the run; returns a manifest that names it.

    Args:
        manifest: names the files that they are from.
        adapted: by URI the detections of its videos.
        store: the output.
        run_id: the run.
        pending: videos whose detections are written.
    """
    if not adapted:
        return manifest
    table = pa.concat_tables(adapted.values())
    table = table.filter(pc.is_in(table["video_id"], value_set=pending.combine_chunks())).sort_by("video_id")
    path = run_detections_path(run_id)
    store.put(path, to_parquet(table))
    return _renamed(manifest, dict.fromkeys(adapted, store.uri_of(path)))


def _renamed(manifest: Manifest, uris: Mapping[str, str]) -> Manifest:
    """The manifest with other URIs of its detections."""
    if not uris:
        return manifest
    column = manifest.table["detections"]
    at = pc.index_in(column, value_set=pa.array(list(uris), pa.string()))
    named = pc.coalesce(pc.take(pa.array(uris.values(), pa.string()), at), column)
    where = manifest.table.schema.get_field_index("detections")
    return replace(manifest, table=manifest.table.set_column(where, manifest.table.schema.field(where), named))


def read_digests(manifest: Manifest, config: RunConfig, storage: Storage) -> Detected:
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
    elif config.reading != Reading():
        option = next(name for name in READING_NAMES if getattr(config.reading, name) != getattr(Reading(), name))
        raise UsageError(f"--{option.replace('_', '-')} needs --detections, or a manifest with a column detections")
    digests: list[str | None] = [None] * len(manifest)
    bad: dict[int, BadRow] = {}
    notes: list[str] = []
    categories: set[str] = set()
    classes: set[str] = set()
    adapted: dict[str, pa.Table] = {}
    tables: dict[str, str] = {}
    sizes = _sizes(manifest, config, storage)
    digests_of = partial(table_digests, reading=config.reading, storage=storage, size_of=sizes)
    for uri, rows, found in digests_by_table(column, ids, digests_of):
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
        classes |= found.classes
        if found.adapted is not None:
            adapted[uri] = found.adapted
        elif found.uri != uri:  # a folder that holds a table
            tables[uri] = found.uri
        for row, digest in zip(rows.tolist(), found.digests.to_pylist(), strict=True):
            digests[row] = digest
            if digest is None:
                rule = "its table of detections has no row of this video; a look that saw nothing is a row without box"
                bad[row] = _bad_row(manifest, row, uri, rule)
    if bad and config.on_bad_row == "fail":
        refuse_rows(list(bad.values()))
    if column.null_count < len(column):
        config.reading.check_mapped(classes)
        notes += _unknown_classes(config, categories)
    kept = [digest for row, digest in enumerate(digests) if row not in bad]
    return Detected(
        manifest=_renamed(manifest, tables).without(bad),
        digests=pa.array(kept, pa.string()),
        notes=tuple(notes),
        adapted=adapted,
    )


def _sizes(manifest: Manifest, config: RunConfig, storage: Storage) -> Callable[[str], tuple[int, int] | None]:
    """The size of a video's frames, for files that have shares of the frame: as given, else by opening the video."""
    if (size := config.reading.size) is not None:
        return lambda _: size

    @cache
    def uris() -> dict[str, str]:
        return dict(zip(*(manifest.table[name].to_pylist() for name in ("video_id", "video_uri")), strict=True))

    @cache
    def size_of(video_id: str) -> tuple[int, int] | None:
        try:
            with open_uri(uris()[video_id], storage=storage) as (reader, _):
                return reader.info.height, reader.info.width
        except (KeyError, CorpusError):
            return None

    return size_of


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
    notes = [f"{redact(uri)}: {note}" for note in found.notes]
    if found.bad:
        notes.append(f"{redact(uri)}: {_bad_text(found)}\n  they are left out")
    if found.unsorted:
        notes.append(
            f"{redact(uri)} is not sorted by video_id: workers read most of its row groups for every video; write it "
            "sorted by video_id, with statistics"
        )
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
