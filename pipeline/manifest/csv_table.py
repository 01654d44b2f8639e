"""Prompt and detection tables as CSV: each column is read by its meaning, not by the first rows of the file."""

import csv
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip

_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def csv_batches(file: BinaryIO, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file with a header, in batches; other columns than those of `types`, and lists, are text.

    Raises:
        ManifestError: A value cannot be read as its column's type; the message names its row.
    """
    names = next(csv.reader([file.readline().decode("utf-8-sig", errors="replace")]), [])
    file.seek(0)
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    first_row = 0
    for batch in pyarrow.csv.open_csv(file, convert_options=options):
        columns = [
            _cast(column, types.get(name, pa.string()), name, batch, first_row)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        first_row += len(batch)


def _cast(texts: pa.Array, kind: pa.DataType, name: str, batch: pa.RecordBatch, first_row: int) -> pa.Array:
    if pa.types.is_string(kind) or pa.types.is_list(kind):
        return texts
    texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^\+", "")  # Arrow reads no plus sign
    try:
        if pa.types.is_boolean(kind):
            codes = pc.index_in(pc.utf8_lower(texts), value_set=pa.array(list(_FLAGS)), skip_nulls=True)
            flags = pa.array(list(_FLAGS.values())).take(codes)
            if flags.null_count > texts.null_count:
                raise pa.ArrowInvalid("not a flag")
            return flags
        return _whole(texts) if pa.types.is_integer(kind) else texts.cast(kind)
    except pa.ArrowInvalid:
        at = next(i for i in range(len(texts)) if not _readable(texts[i].as_py(), boolean=pa.types.is_boolean(kind)))
        owner = f", video_id {clip(batch['video_id'][at].as_py())}" if "video_id" in batch.schema.names else ""
        needed = "true or false" if pa.types.is_boolean(kind) else "a number"
        raise ManifestError(
            f"row {first_row + at}{owner}, column {name}, value {clip(texts[at].as_py())}: must be {needed}"
        ) from None


def _whole(texts: pa.Array) -> pa.Array:
    """int64 where every number is whole (1.0 is), exactly; else float64, for the rules to refuse."""
    try:
        return texts.cast(pa.int64())
    except pa.ArrowInvalid:
        plain = pc.match_substring_regex(texts, r"^-?\d{1,19}$")
        numbers = texts.cast(pa.float64())
        fractions = pc.if_else(plain, None, numbers)
        values = np.asarray(fractions.fill_null(0).to_numpy(zero_copy_only=False))
        if not (np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**53)).all():
            return numbers
        return pc.coalesce(pc.if_else(plain, texts, None).cast(pa.int64()), fractions.cast(pa.int64()))


def _readable(text: str | None, *, boolean: bool) -> bool:
    if text is None:
        return True
    if boolean:
        return text.lower() in _FLAGS
    try:
        pa.scalar(text).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
