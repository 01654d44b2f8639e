"""Manifests found by patterns, joined into one: the latest row of a video wins."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import CorpusError, ManifestError
from pipeline.manifest import SCHEMA, Manifest, read_manifest
from pipeline.runs.config import OnBadRow
from pipeline.storage import Storage, Store, open_source, redact
from pipeline.storage.globs import glob_regex

log = logging.getLogger(__name__)

OTHER_ROW_USED = "; another row of this video is used"
_SHOWN = 20
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class ManifestCounts:
    """Rows of one manifest of a union."""

    uri: str
    rows: int
    """Valid rows."""
    superseded: int = 0
    """Valid rows of videos that are also in a later manifest."""
    bad_rows: int = 0
    problem: str | None = None
    """Why the whole file is left out."""


@dataclass(frozen=True, kw_only=True)
class Union:
    """Several manifests as one."""

    manifest: Manifest
    """One row per video, its latest, in the order of the manifests."""
    sources: tuple[ManifestCounts, ...]
    bad_rows: tuple[str, ...]
    """Rows and files left out, each with the name of its manifest."""

    @property
    def superseded(self) -> int:
        """Number of rows that a later row replaces."""
        return sum(source.superseded for source in self.sources)


def find_manifests(patterns: Sequence[str], *, storage: Storage) -> list[str]:
    """URIs of all manifests that match a pattern, in the order of their names, so date=... sorts by date.

    Raises:
        ManifestError: A pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = _matches(pattern, storage=storage)
        if not matches:
            raise ManifestError(f"no manifest matches {redact(pattern)}; * and ? stay within one folder, ** goes below")
        found |= dict.fromkeys(matches)
    return sorted(found) if len(patterns) == 1 else list(found)


def read_union(
    uris: Sequence[str],
    *,
    storage: Storage,
    on_bad_row: OnBadRow = "fail",
    detections: str | None = None,
) -> Union:
    """Read manifests, oldest first, and join them.

    Args:
        uris: the manifests.
        storage: endpoints and credentials.
        on_bad_row: what to do about rows that break a rule.
        detections: detections of the rows that name none; they then need no prompts.

    Raises:
        ManifestError: A manifest cannot be read or has bad rows, and `on_bad_row` is "fail".
    """

    def open_file(uri: str) -> BinaryIO:
        return open_source(uri, storage=storage)[0]

    manifests: list[tuple[str, Manifest]] = []
    unread: list[ManifestCounts] = []
    for uri in uris:
        try:
            manifests.append(
                (uri, read_manifest(uri, detections=detections, on_bad_row=on_bad_row, open_file=open_file))
            )
        except CorpusError as error:
            if on_bad_row == "fail":
                raise
            unread.append(ManifestCounts(uri=uri, rows=0, problem=str(error)))
    return join(manifests, unread=unread)


def join(manifests: Sequence[tuple[str, Manifest]], *, unread: Sequence[ManifestCounts] = ()) -> Union:
    """Join manifests, oldest first: each video once, with its latest row."""
    tables = [manifest.table for _, manifest in manifests]
    schema = pa.schema(SCHEMA)
    for uri, manifest in manifests:
        try:
            schema = pa.unify_schemas([schema, manifest.table.schema], promote_options="permissive")
        except pa.ArrowException as error:
            raise ManifestError(
                f"{redact(uri)}: a column has another type than in the manifests before: {error}"
            ) from None
    table = pa.concat_tables([schema.empty_table(), *tables], promote_options="permissive")
    file = np.repeat(np.arange(len(tables)), [len(each) for each in tables])
    latest = _latest(table["video_id"])
    sources = [
        ManifestCounts(
            uri=redact(uri),
            rows=len(manifest),
            superseded=int((~latest[file == at]).sum()),
            bad_rows=len(manifest.bad_rows),
        )
        for at, (uri, manifest) in enumerate(manifests)
    ]
    rows = np.concatenate([np.zeros(0, np.int64), *(manifest.rows for _, manifest in manifests)])
    names = pa.DictionaryArray.from_arrays(pa.array(file), pa.array([source.uri for source in sources], pa.string()))
    whole = Manifest(table=table, rows=rows, bad_rows=[], uris=names).select(latest)
    return Union(
        manifest=whole,
        sources=(*sources, *unread),
        bad_rows=(*_bad_rows(manifests, whole), *(f"{source.uri}: {source.problem}" for source in unread)),
    )


def log_union(union: Union) -> None:
    """Log the manifests, and the rows that later ones replace."""
    log.info("%d videos in %d manifests", len(union.manifest), len(union.sources))
    for source in union.sources:
        log.info("  %s: %d rows", source.uri, source.rows)
        if source.superseded:
            log.info("    %d of them are superseded: a later manifest names the video again", source.superseded)
    for bad in union.bad_rows[:_SHOWN]:
        log.warning("left out: %s", bad)
    if len(union.bad_rows) > _SHOWN:
        log.warning("and %d more bad rows", len(union.bad_rows) - _SHOWN)


def _latest(ids: pa.ChunkedArray) -> np.ndarray:
    """For every row whether no later one has its id, bool (rows,)."""
    codes = pc.dictionary_encode(ids).combine_chunks()
    codes = codes.indices.to_numpy() if len(ids) else np.zeros(0, int)
    last = np.zeros(codes.max(initial=-1) + 1, np.int64)
    last[codes] = np.arange(len(codes))  # the last of several assignments to one index counts
    latest = np.zeros(len(codes), np.bool_)
    latest[last] = True
    return latest


def _bad_rows(manifests: Sequence[tuple[str, Manifest]], whole: Manifest) -> list[str]:
    bad = [(uri, row) for uri, manifest in manifests for row in manifest.bad_rows]
    if not bad:
        return []
    ids = pa.array([row.video_id for _, row in bad], pa.string())
    others = pc.is_in(ids, value_set=whole.table["video_id"], skip_nulls=True).to_pylist()
    return [
        f"{redact(uri)}: {row}" + (OTHER_ROW_USED if other else "")
        for (uri, row), other in zip(bad, others, strict=True)
    ]


def _matches(pattern: str, *, storage: Storage) -> list[str]:
    pieces = pattern.split("/")
    fixed = next((at for at, piece in enumerate(pieces) if _WILD.search(piece)), None)
    if fixed is None:
        return [pattern]
    base = "/".join(pieces[:fixed]) or ("/" if pattern.startswith("/") else ".")
    store = Store(base, storage=storage)
    wanted = glob_regex("/".join(pieces[fixed:]))
    prefix = "/".join(pieces[:fixed])
    return sorted(
        f"{prefix}/{entry.path}" if prefix or pattern.startswith("/") else entry.path
        for entry in store.list()
        if wanted.fullmatch(entry.path)
    )
