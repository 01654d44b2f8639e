"""Casts of what pandas, pyarrow, DuckDB and others write to the manifest's types, where no number changes.

A column of a wrong type makes the whole file invalid (ManifestError). A value that cannot be cast makes its row
invalid: it becomes null here, and a note for the rules to report.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Note(NamedTuple):
    """Why a value could not be cast."""

    column: str
    value: str
    rule: str


class Notes(dict[int, Note]):
    """For each row or prompt, by its index, the first value that could not be cast."""

    def __init__(self, *, within: str = "") -> None:
        """`within` is where the columns stand, for the messages about a whole file: `prompts[]`."""
        super().__init__()
        self.within = within

    def path(self, column: str) -> str:
        return ".".join(part for part in (self.within, column) if part)

    def add(self, owner: int, note: Note) -> None:
        self.setdefault(owner, note)


def conform(array: pa.Array, want: pa.DataType, *, column: str, notes: Notes, owner: Indices | None = None) -> pa.Array:
    """The array cast to the type `want`.

    Args:
        owner: For each element the index of its row or prompt; its own index when None.

    Raises:
        ManifestError: The array has a type from which no value can be cast.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type) or pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array) if pa.types.is_run_end_encoded(array.type) else array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), want)
    if owner is None:
        owner = np.arange(len(array))
    if pa.types.is_list(want):
        return _list(array, want, column, notes, owner)
    if pa.types.is_struct(want):
        return _struct(array, want, column, notes, owner)
    if pa.types.is_string(want):
        return _string(array, column, notes, owner)
    if pa.types.is_floating(want):
        return _floats(array, want, column, notes, owner)
    if pa.types.is_boolean(want):
        return _booleans(array, column, notes, owner)
    return _integers(array, want, column, notes, owner)


def list_parts(array: pa.Array) -> tuple[Indices, pa.Array]:
    """Offsets from 0 (null lists are empty) and the values of any kind of list array, sliced or not."""
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(array) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, pc.list_flatten(array)


def make_list(offsets: Indices, values: pa.Array, *, null: Flags | None = None) -> pa.Array:
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), values, mask=None if null is None or not null.any() else pa.array(null)
    )


def struct(fields: dict[str, pa.Array]) -> pa.Array:
    """A struct array of these fields."""
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def flags(array: pa.Array) -> Flags:
    """A boolean Arrow array without nulls as numpy's."""
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.bool_)


def prompt_order(offsets: Indices, prompts: pa.StructArray) -> Indices:
    """Indices that sort each row's prompts by object, by frame_index before time_s, and by their values."""
    column = dict(zip(prompts.type.names, prompts.flatten(), strict=True))
    frame, time = column["frame_index"], column["time_s"]
    return np.lexsort(
        (
            time.fill_null(0).to_numpy(),
            frame.fill_null(0).to_numpy(),
            flags(frame.is_null()),
            column["object_id"].fill_null(0).to_numpy(),
            np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
        )
    )


def nan_to_null(array: pa.Array) -> pa.Array:
    if not pa.types.is_floating(array.type):
        return array
    return pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)


def is_list_like(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _list(array: pa.Array, want: pa.DataType, column: str, notes: Notes, owner: Indices) -> pa.Array:
    if not is_list_like(array.type):
        raise wrong_type(notes.path(column), array.type, f"a list ({want})")
    offsets, values = list_parts(array)
    children = owner[np.repeat(np.arange(len(array)), np.diff(offsets))]
    values = conform(values, want.value_type, column=f"{column}[]", notes=notes, owner=children)
    return make_list(offsets, values, null=np.diff(offsets) == 0).cast(want)


def _struct(array: pa.Array, want: pa.DataType, column: str, notes: Notes, owner: Indices) -> pa.Array:
    if not pa.types.is_struct(array.type):
        raise wrong_type(notes.path(column), array.type, f"a struct of {', '.join(field.name for field in want)}")
    given = {array.type.field(i).name: child for i, child in enumerate(array.flatten())}
    for name, child in given.items():
        if want.get_field_index(name) < 0 and child.null_count < len(child):
            raise ManifestError(
                f"column {notes.path(column)} has a field {clip(name)};"
                f" its fields are {', '.join(field.name for field in want)}"
            )
    children = [
        conform(given[field.name], field.type, column=f"{column}.{field.name}".lstrip("."), notes=notes, owner=owner)
        if field.name in given
        else pa.nulls(len(array), field.type)
        for field in want
    ]
    # Writers without null structs write an absent one as a struct of nulls.
    empty = np.logical_and.reduce([flags(child.is_null()) for child in children])
    return pa.StructArray.from_arrays(children, fields=list(want), mask=pa.array(empty) if empty.any() else None)


def _string(array: pa.Array, column: str, notes: Notes, owner: Indices) -> pa.Array:
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)):
        raise wrong_type(notes.path(column), kind, "string")
    try:  # pycocotools gives counts as bytes
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return _each(array, pa.string(), _text, column, "not UTF-8 text", notes, owner)


def _floats(array: pa.Array, want: pa.DataType, column: str, notes: Notes, owner: Indices) -> pa.Array:
    kind = array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise wrong_type(notes.path(column), kind, "a number (float, double or an integer)")
    if column in ("time_s", "until_s"):  # pandas writes a missing time as NaN
        array = nan_to_null(array)
    # Cast to double first, so that 0.1 of any width becomes the same float32.
    numbers = array.cast(pa.float64(), safe=False).cast(want, safe=False)
    finite = flags(pc.is_finite(numbers).fill_null(True))
    if finite.all():
        return numbers
    for index in np.flatnonzero(~finite):
        notes.add(
            int(owner[index]), Note(_place(column, index, owner), clip(array[index].as_py()), "must be a finite number")
        )
    return pc.if_else(pa.array(finite), numbers, pa.scalar(None, want))


def _booleans(array: pa.Array, column: str, notes: Notes, owner: Indices) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind):
        return array
    array = nan_to_null(array)  # pandas writes true, false and missing as floats
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise wrong_type(notes.path(column), kind, "true or false (bool)")

    def flag(value: Any) -> bool | None:
        return bool(value) if value in (0, 1) else None

    return _each(array, pa.bool_(), flag, column, "must be true or false", notes, owner)


def _integers(array: pa.Array, want: pa.DataType, column: str, notes: Notes, owner: Indices) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind) and pa.types.is_int8(want):  # a point label written as true or false
        return array.cast(want)
    array = nan_to_null(array)  # pandas writes integers as doubles when one is missing
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise wrong_type(notes.path(column), kind, f"an integer ({want})")
    try:
        return array.cast(want)
    except pa.ArrowInvalid:
        limits = np.iinfo(want.to_pandas_dtype())

        def whole(value: Any) -> int | None:
            exact = isinstance(value, int) or (value.is_finite() if isinstance(value, Decimal) else np.isfinite(value))
            number = int(value) if exact else 0
            return number if exact and number == value and limits.min <= number <= limits.max else None

        rule = f"must be a whole number from {limits.min} to {limits.max}"
        return _each(array, want, whole, column, rule, notes, owner)


def _each(
    array: pa.Array,
    want: pa.DataType,
    cast: Callable[[Any], object],
    column: str,
    rule: str,
    notes: Notes,
    owner: Indices,
) -> pa.Array:
    """Cast value by value: slow, for arrays that hold a value that cannot be cast."""
    results = []
    for index, value in enumerate(array.to_pylist()):
        result = None if value is None else cast(value)
        if result is None and value is not None:
            notes.add(int(owner[index]), Note(_place(column, index, owner), clip(value), rule))
        results.append(result)
    return pa.array(results, want)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _place(column: str, index: int | np.integer[Any], owner: Indices) -> str:
    """`points[].x` with the element's position in its prompt filled in, as in `points[2].x`."""
    if "[]" not in column:
        return column
    position = int(index) - int(np.searchsorted(owner, owner[index]))
    return column.replace("[]", f"[{position}]")


def wrong_type(column: str, found: pa.DataType, allowed: str) -> ManifestError:
    text = str(found)
    text = text if len(text) < 200 else f"{text[:200]}..."
    return ManifestError(f"column {column} has the type {text}, not {allowed}")
