"""The manifest's own columns in the videos table: whatever their types are, they must not stop a publication."""

import json
from collections.abc import Sequence

import pyarrow as pa

from pipeline.labels import VIDEOS

_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.float16(): pa.float32()}


def videos_rows(rows: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Videos rows, each with extra columns of its own, as one table in which each column has one type.

    `schema` is that of the table so far. A value that does not fit its column without loss goes to a column named after
    its type as well, such as site_string beside site.
    """
    known = set(VIDEOS.names)
    types = {field.name: field.type for field in schema if field.name not in known}
    columns: dict[str, list[pa.Scalar | None]] = {name: [] for name in types}
    for at, row in enumerate(rows):
        for name in row.schema.names:
            if name not in known and row[name][0].is_valid:
                target, value = _fitted(name, _storable(row[name][0]), types)
                types[target] = value.type
                columns.setdefault(target, []).extend([None] * (at - len(columns.get(target, []))))
                columns[target].append(value)
    table = pa.concat_tables([row.select(VIDEOS.names) for row in rows])
    for name, values in columns.items():
        plain = [value and value.as_py() for value in values] + [None] * (len(rows) - len(values))
        table = table.append_column(name, pa.array(plain, types[name]))
    return table


def _fitted(name: str, value: pa.Scalar, types: dict[str, pa.DataType]) -> tuple[str, pa.Scalar]:
    spelled = {other.lower(): other for other in types}  # to SQL engines Site and site are one column
    for candidate in (name, f"{name}_{_word(value.type)}"):
        column = spelled.get(candidate.lower())
        if column is None:
            return candidate, value
        try:
            cast = value.cast(types[column])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        if pa.types.is_string(types[column]) == pa.types.is_string(value.type):
            return column, cast
    return _fitted(f"{name}_", value, types)


def _storable(value: pa.Scalar) -> pa.Scalar:
    """The value in a type that Delta tables have."""
    kind = value.type
    if pa.types.is_dictionary(kind):
        return _storable(value.cast(kind.value_type))
    if kind in _WIDER:
        return value.cast(_WIDER[kind])
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return value.cast(pa.timestamp("us", tz="UTC"), safe=False)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return value.cast(pa.string())
    if (
        pa.types.is_boolean(kind)
        or pa.types.is_signed_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date32(kind)
        or (pa.types.is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_int64(kind.value_type)))
    ):
        return value
    return pa.scalar(json.dumps(value.as_py(), default=str, ensure_ascii=False), pa.string())


def _word(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return str(kind).partition("<")[0]
