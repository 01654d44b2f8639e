"""Canonical JSON texts of Arrow columns: numbers, lists and objects written the same by every release."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.conform import Indices, flags, make_list


def numbers(array: pa.Array) -> pa.Array:
    """Each number as text, null where absent.

    Python's own formatting, whose shortest digits are documented; Arrow's and numpy's may change with a release.
    """
    valid = flags(array.is_valid())
    values = np.asarray(array.fill_null(0)).astype(np.float64)
    distinct, inverse = np.unique(values, return_inverse=True)
    texts = [str(int(number)) if number.is_integer() else repr(number) for number in distinct.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(inverse, mask=~valid))


def fixed_list(elements: Sequence[pa.Array]) -> pa.Array:
    """`[a,b,...]` of columns of texts; null where one is null."""
    return _joined("[", *_separated(elements), "]")


def lists(offsets: Indices, elements: pa.Array, *, null: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """`[a,b,...]` of the texts between each two offsets; null where `null`."""
    return _joined("[", pc.binary_join(make_list(offsets, elements, null=null), ","), "]")


def record(values: Mapping[str, pa.Array], *, partial: bool = False) -> pa.Array:
    """`{"a":x,"b":y}` with sorted keys; null where a value is null, or without its key when `partial`.

    At least one value of each partial record must be given.
    """
    if not partial:
        return _joined("{", *_separated([(f'"{name}":', values[name]) for name in sorted(values)]), "}")
    given = [name for name in sorted(values) if values[name].null_count < len(values[name])] or sorted(values)
    parts = [_joined(f'"{name}":', values[name]) for name in given]
    return _joined("{", pc.binary_join_element_wise(*parts, ",", null_handling="skip"), "}")


def quoted(texts: pa.Array) -> pa.Array:
    """RLE counts as JSON strings: the backslash is the one character of theirs that JSON escapes."""
    return _joined('"', pc.replace_substring(texts, "\\", "\\\\"), '"')


def _separated(parts: Sequence[Any]) -> list[Any]:
    """The parts, each an array or several texts and arrays, with commas between them."""
    flat: list[Any] = []
    for part in parts:
        flat += [",", *(part if isinstance(part, tuple) else [part])]
    return flat[1:]


def _joined(*parts: str | pa.Array) -> pa.Array:
    """The concatenation of texts and arrays in one pass; null where one is null."""
    return pc.binary_join_element_wise(*parts, "")
