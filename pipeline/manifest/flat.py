"""The flat prompt table: one row per video, object and frame, as data frames and SQL write it.

Arrow joins it to the manifest. DuckDB was measured for the join and the order (600,000 prompts, one core): 4.3 to
7.8 s and 550 MiB against 4.2 to 5.4 s and 450 MiB here, and casts and notes by row would still be needed.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ManifestError
from pipeline.manifest import flat_points
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import Indices, Notes, conform, nan_to_null
from pipeline.manifest.kinds import PROMPT_KINDS
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.schema import PROMPT
from pipeline.manifest.source import OpenFile, naming_file, open_or_refuse
from pipeline.manifest.tables import table_batches
from pipeline.storage import redact

log = logging.getLogger(__name__)

_BLOCK_BYTES = 32 * 2**20
COLUMNS = (
    *("video_id", "object_id", "frame_index", "time_s", "category"),
    *(name for field in (*MODIFIERS, *PROMPT_KINDS) for name in field.flat),
)
"""video_id and object_id are required, and one of frame_index and time_s. Points are either `points`, a list of
structs x, y, label, or three lists of one length. In CSV a list is JSON text: `[12.5, 80]`."""


class PromptTable(NamedTuple):
    """All prompts of a table in the manifest's type, and which row of the manifest each belongs to."""

    blocks: list[pa.Array | None]
    first: Indices
    """Where each block begins, in rows of the prompt table; and where the last one ends."""
    order: Indices
    """Rows of the prompt table by the manifest's rows; as the table has them within a row."""
    starts: Indices
    """Where in `order` each row of the manifest begins."""
    last: list[int]
    """The last row of the manifest that each block has a prompt for: the block is dropped then."""
    notes: Notes

    @classmethod
    def read(cls, uri: str | Path, *, ids: pa.ChunkedArray, open_file: OpenFile) -> "PromptTable":
        blocks, rows, notes, read = [], [np.zeros(0, np.int64)], Notes(), 0
        with open_or_refuse(uri, open_file) as file, naming_file(uri):
            for batches in _by_bytes(table_batches(str(uri), file)):
                chunks, names = [], []
                for batch in batches:
                    mine = Notes()
                    _check_columns(batch.schema)
                    batch.validate(full=True)
                    chunks.append(_to_prompts(batch, mine))
                    names.append(conform(batch.column("video_id"), pa.string(), column="video_id", notes=mine))
                    for index, note in mine.items():
                        notes.add(read + index, note)
                    read += len(batch)
                blocks.append(pa.concat_arrays(chunks))
                rows.append(_rows_of(pa.chunked_array(names), ids, read))
        row = np.concatenate(rows)
        unknown = int((row < 0).sum())
        if unknown:
            log.warning(
                "%s: %d of %d prompts are for videos that are not in the manifest", redact(str(uri)), unknown, read
            )
        order = np.argsort(row, kind="stable")
        starts = np.searchsorted(row[order], np.arange(len(ids) + 1))
        first = np.cumsum([0, *(len(block) for block in blocks)])
        last = [int(part.max()) for part in rows[1:]]
        return cls(blocks, first, order, starts, last, notes)

    def rows(self, start: int, stop: int, notes: Notes) -> tuple[Indices, pa.Array, Indices]:
        """The prompts of rows start..stop of the manifest: offsets, values, and each one's row in the prompt table.

        Call it once for each row, in order: blocks are dropped after their last row. Values that could not be cast are
        noted in `notes`.
        """
        offsets = self.starts[start : stop + 1] - self.starts[start]
        source = self.order[self.starts[start] : self.starts[stop]]
        if self.notes:
            for index in np.flatnonzero(np.isin(source, np.fromiter(self.notes, np.int64))):
                notes.add(int(index), self.notes[int(source[index])])
        values = self._take(source)
        for block, last in enumerate(self.last):  # with both tables in one order, blocks are dropped one by one
            if last < stop:
                self.blocks[block] = None
        return offsets, values, source

    def _take(self, source: Indices) -> pa.Array:
        block_of = np.searchsorted(self.first, source, side="right") - 1
        touched = np.unique(block_of)
        parts = [self.blocks[b].take(pa.array(source[block_of == b] - self.first[b])) for b in touched]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.argsort(block_of, kind="stable"), kind="stable")
        return pa.concat_arrays([pa.array([], PROMPT), *parts]).take(pa.array(order))


def _to_prompts(batch: pa.RecordBatch, notes: Notes) -> pa.Array:
    """The batch's rows as one array of nested prompts."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    fields = {field.name: field for field in (*PROMPT_KINDS, *MODIFIERS)}
    children = []
    for child in PROMPT:
        if field := fields.get(child.name):
            given = {name: columns[name] for name in field.flat if name in columns}
            array = field.from_flat(given, notes) if given else pa.nulls(len(batch), child.type)
        else:
            array = nan_to_null(columns.get(child.name, pa.nulls(len(batch))))
            array = conform(array, child.type, column=child.name, notes=notes)
        children.append(array)
    return pa.StructArray.from_arrays(children, fields=list(PROMPT))


def _by_bytes(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches in blocks of at least _BLOCK_BYTES: id lookups and take() cost nearly the same for small chunks."""
    block, size = [], 0
    for batch in batches:
        block.append(batch)
        size += batch.nbytes
        if size > _BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _rows_of(names: pa.ChunkedArray, ids: pa.ChunkedArray, end: int) -> Indices:
    """For each prompt its row in the manifest; -1 where there is none."""
    if names.null_count:
        row = end - len(names) + int(np.argmax(names.is_null().to_numpy()))
        raise ManifestError(f"row {row}, column video_id is missing; every prompt needs its video's id")
    found = pc.index_in(names, value_set=ids, skip_nulls=True).fill_null(-1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _check_columns(schema: pa.Schema) -> None:
    names = schema.names
    for name in ("video_id", "object_id"):
        if name not in names:
            raise ManifestError(
                f"column {name} is missing; the file has {clip(names)}, allowed are {', '.join(COLUMNS)}"
            )
    for name in names:
        if name not in COLUMNS and name and not name.startswith("__index_level_"):  # pandas' index
            raise ManifestError(f"column {clip(name)} is unknown; allowed are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise ManifestError(f"duplicate column {clip(name)}")
    flat_points.check_names(names)
