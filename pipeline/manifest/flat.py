"""The flat prompt table: one row per video, object and frame, which plain data frames and SQL write more easily."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.conform import (
    Indices,
    Note,
    Notes,
    conform,
    is_list_like,
    list_parts,
    make_list,
    nan_to_null,
    wrong_type,
)
from pipeline.manifest.schema import BOX, PROMPT, clip
from pipeline.manifest.source import OpenFile, blaming, opened, row_batches
from pipeline.store import redact

log = logging.getLogger(__name__)

_BLOCK_BYTES = 32 * 2**20
_KEY = ("video_id", "object_id", "frame_index", "time_s")
_POINTS = ("points_x", "points_y", "points_label")
_SIDES = tuple(field.name for field in BOX)
_MASK = ("mask_height", "mask_width", "mask_counts")
COLUMNS = (*_KEY, "points", *_POINTS, *_SIDES, *_MASK, "category")
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
        with opened(uri, open_file) as file, blaming(uri):
            for batches in _by_bytes(_batches(str(uri), file)):
                chunks, names = [], []
                for batch in batches:
                    mine = Notes()
                    _check_columns(batch.schema)
                    chunks.append(_to_prompts(batch, mine))
                    names.append(conform(batch.column("video_id"), pa.string(), column="video_id", notes=mine))
                    for index, note in mine.items():
                        notes.add(read + index, note)
                    read += len(batch)
                blocks.append(pa.concat_arrays(chunks))
                rows.append(_rows_of(pa.chunked_array(names), ids, read))
        row = np.concatenate(rows)
        strangers = int((row < 0).sum())
        if strangers:
            log.warning(
                "%s: %d of %d prompts are for videos that the manifest does not have", redact(str(uri)), strangers, read
            )
        order = np.argsort(row, kind="stable")
        starts = np.searchsorted(row[order], np.arange(len(ids) + 1))
        first = np.cumsum([0, *(len(block) for block in blocks)])
        last = [int(part.max()) for part in rows[1:]]
        return cls(blocks, first, order, starts, last, notes)

    def rows(self, start: int, stop: int, notes: Notes) -> tuple[Indices, pa.Array, Indices]:
        """The prompts of rows start..stop of the manifest: offsets, values, and each one's row in the prompt table.

        To be asked once and in order.
        Notes of values that could not be cast go to `notes`.
        """
        offsets = self.starts[start : stop + 1] - self.starts[start]
        source = self.order[self.starts[start] : self.starts[stop]]
        if self.notes:
            for index in np.flatnonzero(np.isin(source, np.fromiter(self.notes, np.int64))):
                notes.add(int(index), self.notes[int(source[index])])
        values = self._take(source)
        for block, last in enumerate(self.last):  # in a table sorted as the manifest is, blocks end one by one
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


def _by_bytes(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Few large blocks: a lookup of ids, or take() on many small chunks, costs as much each time as on a large one."""
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
    """Which row of the manifest each prompt is for; -1 where there is none."""
    if names.null_count:
        row = end - len(names) + int(np.argmax(names.is_null().to_numpy()))
        raise ManifestError(f"row {row}, column video_id is missing; every prompt needs its video's id")
    found = pc.index_in(names, value_set=ids, skip_nulls=True).fill_null(-1)
    return np.asarray(found.to_numpy(), dtype=np.int64)


def _batches(uri: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    texts = ("video_id", "category", "mask_counts")
    match PurePosixPath(uri.lower()).suffix:
        case ".csv":
            types = {name: pa.string() for name in (*texts, "points", *_POINTS)}
            options = pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            yield from pyarrow.csv.open_csv(file, convert_options=options)
        case ".jsonl" | ".ndjson":
            numbers = ("time_s", *_SIDES)  # JSON's 3 and 3.5 may stand in different blocks of the file
            schema = pa.schema([*((name, pa.string()) for name in texts), *((name, pa.float64()) for name in numbers)])
            yield from pyarrow.json.read_json(
                file, parse_options=pyarrow.json.ParseOptions(explicit_schema=schema)
            ).to_batches()
        case ".parquet" | ".pq":
            yield from row_batches(pq.ParquetFile(file))
        case _:
            raise ManifestError("a prompt table ends in .parquet, .csv or .jsonl")


def _check_columns(schema: pa.Schema) -> None:
    names = schema.names
    for name in ("video_id", "object_id"):
        if name not in names:
            raise ManifestError(
                f"column {name} is missing; the file has {clip(names)}, allowed are {', '.join(COLUMNS)}"
            )
    for name in names:
        if name not in COLUMNS and not name.startswith("__index_level_"):  # pandas' index
            raise ManifestError(f"column {clip(name)} is unknown; allowed are {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise ManifestError(f"column {clip(name)} stands there twice")
    given = [name for name in _POINTS if name in names]
    if given and len(given) < 3:
        raise ManifestError(f"of {', '.join(_POINTS)} only {', '.join(given)} are there; points need all three")
    if given and "points" in names:
        raise ManifestError("column points beside points_x; only one of the two forms is allowed")


def _to_prompts(batch: pa.RecordBatch, notes: Notes) -> pa.Array:
    """The batch's rows as one array of nested prompts."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    count = len(batch)
    fields = {name: nan_to_null(columns[name]) for name in ("object_id", "frame_index", "time_s") if name in columns}
    if "category" in columns:
        fields["category"] = columns["category"]
    if "points" in columns:
        fields["points"] = _from_json(columns["points"], "points", _json_points, notes)
    elif "points_x" in columns:
        fields["points"] = _zip_points(columns, notes)
    if any(name in columns for name in _SIDES):
        fields["box"] = _struct({name: nan_to_null(columns[name]) for name in _SIDES if name in columns})
    if any(name in columns for name in _MASK):
        fields["mask"] = _mask(columns, count, notes)
    return conform(_struct(fields), PROMPT, column="", notes=notes)


def _mask(columns: dict[str, pa.Array], count: int, notes: Notes) -> pa.Array:
    height, width = (
        conform(columns.get(name, pa.nulls(count)), pa.int32(), column=name, notes=notes)
        for name in ("mask_height", "mask_width")
    )
    both = pa.concat_arrays([height, width]).take(pa.array(np.arange(2 * count).reshape(2, count).T.ravel()))
    absent = pc.and_(height.is_null(), width.is_null()).to_numpy(zero_copy_only=False)
    size = make_list(np.arange(0, 2 * count + 1, 2), both, null=absent)
    return _struct({"size": size, "counts": columns.get("mask_counts", pa.nulls(count))})


def _zip_points(columns: dict[str, pa.Array], notes: Notes) -> pa.Array:
    lists = []
    for name in _POINTS:
        array = _from_json(columns[name], name, _json_numbers, notes)
        if pa.types.is_null(array.type):
            array = pa.nulls(len(array), pa.list_(pa.float64()))
        if not is_list_like(array.type):
            raise wrong_type(name, array.type, "a list of numbers, one for each point")
        lists.append(array)
    lengths = [np.diff(list_parts(array)[0]) for array in lists]
    uneven = (lengths[0] != lengths[1]) | (lengths[0] != lengths[2])
    for row in np.flatnonzero(uneven):
        value = tuple(int(length[row]) for length in lengths)
        notes.add(int(row), Note("points", clip(value), f"{', '.join(_POINTS)} have different lengths"))
    even = pa.array(np.where(uneven, -1, np.arange(len(uneven))), mask=uneven)
    x, y, label = (list_parts(array.take(even)) for array in lists)
    return make_list(x[0], _struct({"x": x[1], "y": y[1], "label": label[1]}))


def _struct(fields: dict[str, pa.Array]) -> pa.Array:
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def _from_json(array: pa.Array, column: str, parse: Callable[[Any], Any], notes: Notes) -> pa.Array:
    """CSV has no lists: its cells are JSON."""
    if not pa.types.is_string(array.type):
        return array
    lists = []
    for row, text in enumerate(array.to_pylist()):
        try:
            lists.append(None if text is None else parse(json.loads(text)))
        except (ValueError, TypeError, KeyError, RecursionError):
            notes.add(row, Note(column, clip(text), "is not a JSON list as this column needs it"))
            lists.append(None)
    point = pa.struct([(name, pa.float64()) for name in ("x", "y", "label")])
    return pa.array(lists, pa.list_(point if column == "points" else pa.float64()))


def _json_numbers(value: Any) -> list[float]:
    if not isinstance(value, list):
        raise TypeError
    return [float(number) for number in value]


def _json_points(value: Any) -> list[dict[str, float]]:
    if not isinstance(value, list) or any(set(point) != {"x", "y", "label"} for point in value):
        raise TypeError
    return [{name: float(number) for name, number in point.items()} for point in value]
