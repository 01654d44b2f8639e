"""Rows of the flat prompt table as nested prompts."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.conform import (
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

POINT_LISTS = ("points_x", "points_y", "points_label")
SIDES = tuple(field.name for field in BOX)
MASK_PARTS = ("mask_height", "mask_width", "mask_counts")


def to_prompts(batch: pa.RecordBatch, notes: Notes) -> pa.Array:
    """The batch's rows as one array of nested prompts."""
    columns = {name: batch.column(name) for name in batch.schema.names}
    count = len(batch)
    fields = {name: nan_to_null(columns[name]) for name in ("object_id", "frame_index", "time_s") if name in columns}
    fields |= {name: columns[name] for name in ("category", "correct") if name in columns}
    if "points" in columns:
        fields["points"] = _from_json(columns["points"], "points", _json_points, notes)
    elif "points_x" in columns:
        fields["points"] = _zip_points(columns, notes)
    if any(name in columns for name in SIDES):
        fields["box"] = _struct({name: nan_to_null(columns[name]) for name in SIDES if name in columns})
    if any(name in columns for name in MASK_PARTS):
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
    for name in POINT_LISTS:
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
        notes.add(int(row), Note("points", clip(value), f"{', '.join(POINT_LISTS)} have different lengths"))
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
