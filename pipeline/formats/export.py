"""An export: chunks of videos become files and parts of documents; an interrupted export resumes where it stopped.

A chunk ends with a record under `_export/`, written last: the record says that the chunk is complete. Parts of
documents are kept beside it and are joined at the end through a local file, so that memory holds one chunk.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.formats.export_chunks import ChunkRecord, ChunkWriter
from pipeline.formats.export_documents import write_document
from pipeline.formats.export_files import ExportFiles
from pipeline.formats.format import ExportContext, Format
from pipeline.formats.location import EXPORT_STATE
from pipeline.formats.selection import CHUNK_ROWS, Selection, chunks, nothing_selected
from pipeline.formats.sources import Problem
from pipeline.formats.split import Splits
from pipeline.formats.video_masks import NO_CATEGORY
from pipeline.storage import Storage, Store


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export did."""

    videos: int
    rows: int
    chunks: int
    chunks_done_before: int
    """Chunks that an earlier run had completed."""
    documents: int
    empty_splits: tuple[str, ...]
    """Splits without videos; no file mentions them."""
    problems: tuple[Problem, ...]
    """Videos that were left out, with the reason."""


def export_labels(
    selection: Selection,
    target: Store,
    form: Format,
    *,
    splits: Splits | None = None,
    tolerance: float = 0.0,
    labels: str = "",
    with_pictures: bool = False,
    storage: Storage | None = None,
    chunk_rows: int = CHUNK_ROWS,
    watch: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the selection in a format.

    Args:
        target: an empty folder, or the folder of an export to resume or update.
        splits: shares of the videos that are held out.
        tolerance: pixels that polygons may deviate from the outline, where the format has polygons.
        labels: URI of the label output, for formats that record it.
        with_pictures: also write the pictures of the selected frames.
        storage: Endpoints and credentials by URI prefix, to open videos with.
        watch: called with the number of finished videos and of all videos.

    Raises:
        UsageError: Nothing is selected, or the target holds another export or foreign files.
    """
    videos = selection.counts()
    if not videos:
        raise nothing_selected(selection)
    splits = splits or Splits()
    held = {splits.of(video.video_id) for video in videos}
    context = ExportContext(
        categories=tuple(sorted({category or NO_CATEGORY for category in selection.categories()})),
        splits=splits,
        filled_splits=tuple(name for name in splits.names if name in held),
        every=selection.every,
        tolerance=tolerance,
        labels=labels,
        storage=storage,
    )
    files = ExportFiles(target)
    _claim(target, files, form, context)
    writer = ChunkWriter(
        selection=selection, target=target, files=files, form=form, context=context, with_pictures=with_pictures
    )
    records: list[ChunkRecord] = []
    done = done_before = 0
    for chunk in chunks(videos, rows=chunk_rows):
        record = writer.completed(chunk)
        done_before += record is not None
        records.append(record or writer.write(chunk))
        done += len(chunk.videos)
        if watch:
            watch(done, len(videos))
    documents = list(form.documents(context))
    for document in documents:
        write_document(document, records, target, files)
    return Exported(
        videos=len(videos),
        rows=sum(video.rows for video in videos),
        chunks=len(records),
        chunks_done_before=done_before,
        documents=len(documents),
        empty_splits=tuple(name for name in splits.names if name not in held),
        problems=tuple(problem for record in records for problem in record.problems),
    )


def _claim(target: Store, files: ExportFiles, form: Format, context: ExportContext) -> None:
    """Record which export a folder holds, so that no other export and no foreign files are mixed with it."""
    claim = {"format": form.name, "every": context.every, "tolerance": context.tolerance}
    claim = json.loads(json.dumps({**claim, "splits": context.splits.shares}))
    path = f"{EXPORT_STATE}/export.json"
    data = target.read_or_none(path)
    if data is None:
        files.check_empty()
        if target.commit_once(path, json.dumps(claim).encode()):
            return
        data = target.read(path)
    try:
        found = json.loads(data)
        differing = next((key for key in claim if found.get(key) != claim[key]), None)
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{target.uri_of(path)} is not the record of an export; choose another place") from error
    if differing:
        raise UsageError(
            f"{target} holds an export with {differing} {found.get(differing)!r}, not {claim[differing]!r}; "
            "choose another place"
        )
