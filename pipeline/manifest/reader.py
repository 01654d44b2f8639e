"""Reading of manifests: in batches of Arrow columns, with every rule checked before a model is loaded."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import BadRow, clip
from pipeline.manifest.conform import Notes, conform, flags, list_parts, make_list, prompt_order, wrong_type
from pipeline.manifest.findings import Findings
from pipeline.manifest.flat import PromptTable
from pipeline.manifest.rules import check_prompts, check_rows
from pipeline.manifest.schema import PROMPT, REQUIRED, SCHEMA, Manifest
from pipeline.manifest.source import OpenFile, in_memory, naming_file, open_any, open_or_refuse, row_batches

_SHOWN = 20
_ENOUGH = 1000  # bad rows after which reading stops, when none is allowed


def read_manifest(
    uri: str | Path | pa.Table | Any,
    *,
    prompts: str | Path | pa.Table | Any | None = None,
    detections: str | None = None,
    on_bad_row: Literal["fail", "skip"] = "fail",
    open_file: OpenFile = open_any,
) -> Manifest:
    """The validated manifest at `uri` (Parquet), its prompts from the flat table `prompts` when that is given.

    Args:
        uri: path or fsspec URL; or the table itself, of pyarrow, pandas or polars.
        prompts: Parquet, CSV or JSON lines, one row a prompt, with columns as in `flat.COLUMNS`; or the table itself.
        detections: table of detections of the rows that name none in their column `detections`; a row with detections
            needs no prompts.
        on_bad_row: fail raises for rows that break a rule, skip leaves them out and lists them in the result.
        open_file: opens a URI as a seekable binary file.

    Raises:
        ManifestError: The manifest cannot be read, a column is missing or of a wrong type, or rows break rules.
    """
    uri, prompts, open_file = in_memory(uri, prompts, open_file)
    with contextlib.ExitStack() as stack:
        file_object = stack.enter_context(open_or_refuse(uri, open_file))
        with naming_file(uri):
            file = pq.ParquetFile(file_object)
            schema = pa.schema(
                [
                    *SCHEMA,
                    *_extra_fields(file.schema_arrow, flat=prompts is not None, detections=detections is not None),
                ]
            )
            ids = _ids(file) if prompts is not None else None
        table = PromptTable.read(prompts, ids=ids, open_file=open_file) if prompts is not None else None
        with naming_file(uri):
            reader = _Reader(schema, table, detections)
            for batch in row_batches(file):
                reader.add(batch)
                if on_bad_row == "fail" and len(reader.bad) > _ENOUGH:
                    break
            manifest = reader.finish()
            if manifest.bad_rows and on_bad_row == "fail":
                raise ManifestError(_complaint(manifest.bad_rows, reader.total, of=file.metadata.num_rows))
    return manifest


class _Reader:
    """Batches read so far, and their bad rows."""

    def __init__(self, schema: pa.Schema, prompts: PromptTable | None, detections: str | None) -> None:
        self.total = 0
        self._detections = detections
        self._schema = schema
        self._prompts = prompts
        self._batches: list[pa.RecordBatch] = []
        self._good: list[np.ndarray] = []
        self.bad: list[BadRow] = []

    def add(self, raw: pa.RecordBatch) -> None:
        try:
            raw.validate(full=True)  # the Parquet reader lets text through that is not UTF-8
        except pa.ArrowInvalid as error:
            rows = f"rows {self.total} to {self.total + len(raw) - 1}"
            raise ManifestError(f"a column holds what its type does not allow in {rows}: {error}") from error
        notes, prompt_notes, source_rows = Notes(), Notes(within="prompts[]"), None
        columns = {}
        for field in self._schema:
            if field.name == "prompts":
                continue
            if field.name not in raw.schema.names:
                columns[field.name] = pa.nulls(len(raw), field.type)
            elif field.name in SCHEMA.names:
                columns[field.name] = self._conform(raw, field, notes)
            else:
                columns[field.name] = raw.column(field.name)
        columns["detections"] = pc.coalesce(columns["detections"], pa.scalar(self._detections, pa.string()))
        if self._prompts is None:
            given = raw.column("prompts") if "prompts" in raw.schema.names else pa.nulls(len(raw))
            offsets, values = _prompt_list(given)
            values = conform(values, PROMPT, column="", notes=prompt_notes)
        else:
            offsets, values, source_rows = self._prompts.rows(self.total, self.total + len(raw), prompt_notes)
        columns["prompts"] = make_list(offsets, values)
        batch = pa.record_batch(columns)

        found = Findings(columns["video_id"], first_row=self.total, offsets=offsets, source_rows=source_rows)
        found.row_notes(notes)
        check_rows(batch, found)
        found.prompt_notes(prompt_notes)
        check_prompts(columns["prompts"], found, optional=flags(columns["detections"].is_valid()))
        self.bad += found.rows
        self._good.append(~found.bad)
        # In one order, so that the nested and the flat form of the same prompts are the same table.
        columns["prompts"] = make_list(offsets, values.take(pa.array(prompt_order(offsets, values))))
        self._batches.append(pa.record_batch([columns[name] for name in self._schema.names], schema=self._schema))
        self.total += len(raw)

    def _conform(self, raw: pa.RecordBatch, field: pa.Field, notes: Notes) -> pa.Array:
        array = raw.column(field.name)
        try:
            return conform(array, field.type, column=field.name, notes=notes)
        except ManifestError as error:
            row = int(np.argmax(array.is_valid().to_numpy(zero_copy_only=False)))
            video_id = clip(raw.column("video_id")[row].as_py())
            raise ManifestError(
                f"{error}; the first is row {self.total + row}, video_id {video_id}, value {clip(array[row].as_py())}"
            ) from None

    def finish(self) -> Manifest:
        """The manifest, after the check that needs all rows: each video_id occurs once."""
        table = pa.Table.from_batches(self._batches, schema=self._schema)
        good = np.concatenate([np.zeros(0, np.bool_), *self._good])
        ids = table.column("video_id")
        if repeated := dict(_repeated(ids)):  # report the repeated id, not the flat prompts that it lacks
            self.bad = [bad for bad in self.bad if bad.row not in repeated]
        for row, first in repeated.items():
            good[row] = False
            video_id = ids[row].as_py()
            rule = f"row {first} has this id already; each video has one row"
            self.bad.append(BadRow(row, video_id, "video_id", clip(video_id), rule))
        if not good.all():
            table = table.filter(pa.array(good))
        self.bad.sort(key=lambda bad: bad.row)
        return Manifest(table=table, rows=np.flatnonzero(good), bad_rows=self.bad)


def _repeated(ids: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Each row whose id an earlier row has, with the first such row."""
    counts = pc.value_counts(ids)
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).drop_null()
    if len(several) == 0:
        return
    first: dict[str, int] = {}
    among = pc.is_in(ids, several)
    for row, video_id in zip(np.flatnonzero(among.to_numpy()).tolist(), ids.filter(among).to_pylist(), strict=True):
        earliest = first.setdefault(video_id, row)
        if earliest != row:
            yield row, earliest


def _extra_fields(schema: pa.Schema, *, flat: bool, detections: bool) -> list[pa.Field]:
    repeated = {name for name in schema.names if schema.names.count(name) > 1}
    if repeated:
        raise ManifestError(f"duplicate column {clip(min(repeated))}")
    optional = flat or detections or "detections" in schema.names
    required = [name for name in REQUIRED if name != "prompts" or not optional]
    missing = [name for name in required if name not in schema.names]
    if missing:
        raise ManifestError(
            f"column {missing[0]} is missing; the columns {', '.join(required)} are required,"
            f" the file has {clip(schema.names)}"
        )
    if flat and "prompts" in schema.names:
        raise ManifestError("both a column prompts and a prompt table are given; only one of them is allowed")
    return [field.remove_metadata() for field in schema if field.name not in SCHEMA.names]


def _prompt_list(column: pa.Array) -> tuple[np.ndarray, pa.Array]:
    if pa.types.is_null(column.type):
        return np.zeros(len(column) + 1, np.int64), pa.nulls(0, PROMPT)
    try:
        return list_parts(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise wrong_type("prompts", column.type, f"a list of structs of {', '.join(PROMPT.names)}") from None


def _ids(file: pq.ParquetFile) -> pa.ChunkedArray:
    """The ids of all videos, read first: flat prompts are looked up among them."""
    chunks = [
        conform(batch.column(0), pa.string(), column="video_id", notes=Notes())
        for batch in row_batches(file, columns=["video_id"])
    ]
    return pa.chunked_array(chunks, pa.string())


def _complaint(bad_rows: list[BadRow], total: int, *, of: int) -> str:
    which = f"{total} rows" if total == of else f"the first {total} rows (of {of})"
    lines = [f"{len(bad_rows)} of {which} break a rule (rows count from 0)"]
    lines += [f"  {bad}" for bad in bad_rows[:_SHOWN]]
    if len(bad_rows) > _SHOWN:
        lines.append(f"  and {len(bad_rows) - _SHOWN} more")
    return "\n".join(lines)
