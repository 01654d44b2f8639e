"""Points of the flat prompt table: a list of structs, or three lists of numbers; in CSV as JSON text."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import Note, Notes, is_list_like, list_parts, make_list, struct, wrong_type

LISTS = ("points_x", "points_y", "points_label")


def check_names(names: list[str]) -> None:
    """Refuse a table with only some of the three lists, or with both forms."""
    given = [name for name in LISTS if name in names]
    if given and len(given) < 3:
        raise ManifestError(f"of {', '.join(LISTS)} only {', '.join(given)} are there; points need all three")
    if given and "points" in names:
        raise ManifestError("column points beside points_x; only one of the two forms is allowed")


def nested(columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
    """The points as lists of structs x, y, label."""
    if "points" in columns:
        return _from_json(columns["points"], "points", _json_points, notes)
    lists = []
    for name in LISTS:
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
        notes.add(int(row), Note("points", clip(value), f"{', '.join(LISTS)} have different lengths"))
    even = pa.array(np.where(uneven, -1, np.arange(len(uneven))), mask=uneven)
    x, y, label = (list_parts(array.take(even)) for array in lists)
    return make_list(x[0], struct({"x": x[1], "y": y[1], "label": label[1]}))


def _from_json(array: pa.Array, column: str, parse: Callable[[Any], Any], notes: Notes) -> pa.Array:
    """Lists from JSON text; an array of lists as it is."""
    if not pa.types.is_string(array.type):
        return array
    lists = []
    for row, text in enumerate(array.to_pylist()):
        try:
            lists.append(None if text is None else parse(json.loads(text)))
        except (ValueError, TypeError, KeyError, RecursionError):
            notes.add(row, Note(column, clip(text), "is not a JSON list of what this column needs"))
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
