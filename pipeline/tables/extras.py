"""The manifest's own columns in the videos table, with one Delta type for each Arrow type.

| Arrow | Delta |
|---|---|
| integers, floats, bool, string, binary, date, decimal up to 38 digits | the same; uint8 to uint32, float16 wider |
| uint64 | decimal(20, 0) |
| timestamp with a time zone, without one | timestamp in UTC, timestamp_ntz; both in microseconds |
| list, struct, map of these; dictionary; extension type | the same; the values; the storage |
| all others: time, duration, interval, union, wider decimals, null inside | string, as JSON |
"""

import json
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.labels import VIDEOS

_DELTA = {
    **{kind: kind for kind in (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())},
    **{pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0)},
    **{kind: pa.string() for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{kind: pa.binary() for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    **{pa.float16(): pa.float32(), pa.date32(): pa.date32(), pa.date64(): pa.date32()},
}


def videos_rows(rows: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Videos rows, which may have different extra columns, as one table in which each column has one type.

    `schema` is that of the table so far. A value that does not fit its column without loss goes to a column named after
    its type as well, such as site_string beside site.
    """
    known = set(VIDEOS.names)
    types = {field.name: field.type for field in schema if field.name not in known}
    pieces: dict[str, list[tuple[list[int], pa.Array]]] = {name: [] for name in types}
    for name, places, values in _cells(rows, known):
        for target, chosen, fitted in _fitted(name, places, values, types):
            types[target] = fitted.type
            pieces.setdefault(target, []).append((chosen, fitted))
    table = pa.concat_tables([row.select(VIDEOS.names) for row in rows])
    for name, held in pieces.items():
        at: list[int | None] = [None] * len(rows)
        for index, place in enumerate(place for places, _ in held for place in places):
            at[place] = index
        values = pa.concat_arrays([pa.nulls(0, types[name]), *(array for _, array in held)])
        table = table.append_column(name, values.take(pa.array(at, pa.int64())))
    return table


def delta_type(kind: pa.DataType) -> pa.DataType | None:
    """The type in which a Delta table holds an Arrow type; None where it holds JSON text instead."""
    if kind in _DELTA:
        return _DELTA[kind]
    if isinstance(kind, pa.BaseExtensionType):
        return delta_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return delta_type(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz and "UTC")
    if pa.types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if 0 <= kind.scale <= kind.precision <= 38 else None
    if pa.types.is_map(kind):
        key, item = delta_type(kind.key_type), delta_type(kind.item_type)
        return pa.map_(key, item) if key and item else None
    if pa.types.is_struct(kind):
        fields = [(field.name, delta_type(field.type)) for field in kind]
        names = {name.lower() for name, _ in fields}
        return pa.struct(fields) if fields and len(names) == len(fields) and all(t for _, t in fields) else None
    if isinstance(kind, pa.DataType) and hasattr(kind, "value_field"):  # any kind of list
        element = delta_type(kind.value_type)
        return element and pa.list_(element)
    return None


def _cells(rows: Sequence[pa.Table], known: set[str]) -> Iterator[tuple[str, list[int], pa.Array]]:
    """For each extra column and type of it the rows that have a value, and the values; in one order for any rows."""
    found: dict[tuple[str, pa.DataType], list[tuple[int, pa.Array]]] = {}
    for at, row in enumerate(rows):
        for name in row.schema.names:
            if name not in known and row[name].null_count == 0:
                array = row[name].combine_chunks()
                if isinstance(array, pa.ExtensionArray):
                    array = array.storage
                if pa.types.is_dictionary(array.type):
                    array = array.dictionary_decode()
                found.setdefault((name, array.type), []).append((at, array))

    def order(cell: tuple[str, pa.DataType]) -> tuple[str, bool, bool, str]:
        """Texts first, JSON last: the first type of a name becomes that of its column."""
        name, kind = cell
        return name, delta_type(kind) is None, delta_type(kind) != pa.string(), str(kind)

    for name, kind in sorted(found, key=order):
        places, arrays = zip(*found[name, kind], strict=True)
        yield name, list(places), pa.concat_arrays(arrays)


def _fitted(
    name: str, places: list[int], values: pa.Array, types: dict[str, pa.DataType]
) -> Iterator[tuple[str, list[int], pa.Array]]:
    """The columns that take the values, with the rows and values of each."""
    spelled = {other.lower(): other for other in types}  # to SQL engines Site and site are one column
    stored = _stored(values)
    for candidate in (name, f"{name}_{_word(stored.type)}"):
        column = spelled.get(candidate.lower())
        if column is None:
            yield candidate, places, stored
            return
        if (cast := _cast(values, stored, types[column])) is not None:
            yield column, places, cast
            return
        if len(values) > 1:  # some of them may fit
            for at, place in enumerate(places):
                for target, chosen, fitted in _fitted(name, [place], values.slice(at, 1), types):
                    types[target] = fitted.type
                    yield target, chosen, fitted
            return
    yield from _fitted(f"{name}_", places, values, types)


def _stored(values: pa.Array) -> pa.Array:
    """The values in the type that Delta tables hold them in."""
    kind = delta_type(values.type)
    if kind is None:
        return _json(values)
    try:
        # Only nanoseconds lose digits, and no other cast here can.
        return values.cast(kind, safe="ns" not in str(values.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _json(values)


def _cast(values: pa.Array, stored: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """The values as a column's type; None if that would change a value, or turn a plain value into text."""
    if pa.types.is_string(kind) and not pa.types.is_string(stored.type):
        # Columns of release 0.1.0 hold JSON where it knew no Delta type.
        return None if _was_plain(values.type) else _json(values)
    try:
        if "null" in str(values.type):  # an empty list whose type release 0.1.0 did not know
            return values.cast(kind)
        if pa.types.is_string(kind) != pa.types.is_string(stored.type):
            return None
        cast = stored.cast(kind)
        return cast if cast.cast(stored.type).equals(stored) else None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _was_plain(kind: pa.DataType) -> bool:
    plain = (pa.types.is_integer(kind) and kind != pa.uint64()) or pa.types.is_floating(kind) or kind == pa.bool_()
    zoned = pa.types.is_timestamp(kind) and kind.tz is not None
    return plain or zoned or kind == pa.date32() or kind in (pa.list_(pa.string()), pa.list_(pa.int64()))


def _json(values: pa.Array) -> pa.Array:
    return pa.array([json.dumps(_plain(value), default=str, ensure_ascii=False) for value in values], pa.string())


def _plain(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except (ValueError, OverflowError):  # beyond Python's calendar
        return value.cast(pa.string()).as_py()


def _word(kind: pa.DataType) -> str:
    return "decimal" if pa.types.is_decimal(kind) else re.split(r"\W", str(kind))[0]
