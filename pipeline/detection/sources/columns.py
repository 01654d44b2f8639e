"""Columns of detectors' and trackers' tables under the names of the detections table.

A column under its own name wins. Where two other columns may both be the same thing, they are refused by name.
"""

import ast
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.detection.sources.classes import Categories
from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import Note, Notes, nan_to_null

SIDES = ("x_min", "y_min", "x_max", "y_max")
NAMES = ("category_name", "class_name", "name", "label", "labels")
"""Columns of class names; where there is none, a column of NUMBERS."""
NUMBERS = ("class", "class_id", "category_id")
SCORES = ("confidence", "conf")
IDENTITIES = ("track_id", "object_id")
PICTURES = ("image", "image_name", "image_path", "file_name", "filename", "file", "path", "image_id")
"""Columns of picture names, from which video and frame are read."""
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
SIZED = (
    ("x_min", "y_min", "width", "height"),
    ("left", "top", "width", "height"),
    ("bb_left", "bb_top", "bb_width", "bb_height"),
)
CENTRED = (("x_center", "y_center", "width", "height"),)
UNCLEAR = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
"""A corner in some tools, a centre in others."""
OTHER_NAMES = frozenset((*NAMES, *NUMBERS, *SCORES, *IDENTITIES, *PICTURES, "segments", "fps")).union(
    *CORNERS, *SIZED, *CENTRED
)
"""Columns that are read besides those of the detections table."""


def rename_columns(raw: pa.RecordBatch, categories: Categories) -> pa.RecordBatch:
    """The batch with the columns of the detections table, as far as it has them under this or another name.

    Raises:
        ManifestError: Two columns may be the same thing, or a column's values cannot be read.
    """
    names = raw.schema.names
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f"duplicate column {name}")
    columns = plain_columns(raw)
    if "category" not in columns:
        found = _only([name for name in NAMES if name in columns], "the category") or _only(
            [name for name in NUMBERS if name in columns], "the category"
        )
        if found:
            columns["category"] = categories.of_all(columns[found])
    elif categories.change and pa.types.is_string(columns["category"].type):
        columns["category"] = categories.of_all(columns["category"])
    if "score" not in columns and (found := _only([name for name in SCORES if name in columns], "the score")):
        columns["score"] = columns[found]
    if found := _only([name for name in IDENTITIES if name in columns], "the identity"):
        columns["track_id"] = columns[found]
    return pa.RecordBatch.from_pydict(_with_box(columns))


def plain_columns(raw: pa.RecordBatch) -> dict[str, pa.Array]:
    """The columns by name; those of text, which polars and pandas write in several types, as strings."""
    columns = {}
    for name, column in zip(raw.schema.names, raw.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_string(kind)
        columns[name] = column.cast(pa.string()) if text and column.type != pa.string() else column
    return columns


def identities(array: pa.Array, notes: Notes, *, column: str) -> pa.Array:
    """Identities as text; null where there is none: a missing value, empty text or a negative number.

    Whole numbers that pandas wrote as 7.0 are 7.
    """
    array = nan_to_null(array)
    if pa.types.is_floating(array.type):
        whole = pc.equal(array, pc.floor(array)).fill_null(True).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(~whole):
            notes.add(int(row), Note(column, clip(array[int(row)].as_py()), "must be a whole number, or text"))
        array = pc.if_else(pa.array(whole), array, None).cast(pa.int64(), safe=False)
    if not (pa.types.is_integer(array.type) or pa.types.is_null(array.type) or pa.types.is_string(array.type)):
        try:
            array = array.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ManifestError(f"column {column} has the type {array.type}, not a whole number or text") from None
    texts = pc.replace_substring_regex(pc.utf8_trim_whitespace(array.cast(pa.string())), r"^(-?\d+)\.0+$", r"\1")
    none = pc.or_(pc.equal(texts, ""), pc.match_substring_regex(texts, r"^-\d+$"))
    return pc.if_else(none.fill_null(False), None, texts)


def text_structs(array: pa.Array, *, column: str) -> pa.Array:
    """Structs from text, as CSV files have them: `{'x1': 1.5, 'y1': 2.25, 'x2': 20.0, 'y2': 30.0}`, or JSON.

    Raises:
        ManifestError: A text is none; the message names its row.
    """
    if not pa.types.is_string(array.type):
        return array
    found = []
    for row, text in enumerate(array.to_pylist()):
        try:
            value = ast.literal_eval(text) if text else None
            if not isinstance(value, dict | None):
                raise ValueError("no mapping")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ManifestError(
                f"row {row}, column {column}, value {clip(text)}: must be a mapping such as {{'x1': 1.5, ...}}"
            ) from None
        found.append(value)
    try:
        return pa.array(found)
    except pa.ArrowException as error:
        raise ManifestError(f"column {column}: its values are of several types: {error}") from None


def _only(found: Sequence[str], what: str) -> str | None:
    if len(found) > 1:
        raise ManifestError(f"the columns {' and '.join(found)} may both be {what}; remove or rename one")
    return found[0] if found else None


def _with_box(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    if "box" in columns:
        box = text_structs(columns["box"], column="box")
        if pa.types.is_struct(box.type) and {field.name for field in box.type} == set(CORNERS[1]):
            x1, y1, x2, y2 = (pc.struct_field(box, name) for name in CORNERS[1])
            sides = pa.StructArray.from_arrays([x1, y1, x2, y2], names=list(SIDES))
            box = pc.if_else(box.is_valid(), sides, pa.scalar(None, sides.type))
        return {**columns, "box": box}
    if set(SIDES) <= columns.keys():
        return columns
    forms = [form for form in (*CORNERS, *SIZED, *CENTRED) if set(form) <= columns.keys()]
    if not forms:
        if "mask" not in columns and (form := next((each for each in UNCLEAR if set(each) <= columns.keys()), None)):
            raise ManifestError(
                f"the columns {', '.join(form)} may be a corner or a centre with a size; name them "
                f"{', '.join(SIZED[0])} or {', '.join(CENTRED[0])}"
            )
        return columns
    if len(forms) > 1:
        raise ManifestError(f"the columns {' and '.join(', '.join(form) for form in forms)} may both be the box")
    a, b, c, d = (_numbers(columns[name], name) for name in forms[0])
    if forms[0] in SIZED:
        c, d = pc.add(a, c), pc.add(b, d)
    elif forms[0] in CENTRED:
        a, b = pc.subtract(a, pc.divide(c, 2)), pc.subtract(b, pc.divide(d, 2))
        c, d = pc.add(a, c), pc.add(b, d)
    return {**columns, **dict(zip(SIDES, (a, b, c, d), strict=True))}


def _numbers(array: pa.Array, name: str) -> pa.Array:
    try:
        return array.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ManifestError(f"column {name} has the type {array.type}, not a number: {error}") from None
