"""What a row's prompts say, as a digest: the prompts' part of a label key."""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.conform import Indices, flags, list_parts, make_list, prompt_order
from pipeline.manifest.schema import Manifest

_ROWS = 16_384


def prompt_digests(manifest: Manifest) -> pa.Array:
    """For each row sha256 (hex) of its prompt geometry as canonical JSON; neither category nor any order enters.

    The JSON is a list of objects with sorted keys and without spaces: box [x_min, y_min, x_max, y_max], correct (true,
    or absent), frame_index, mask {counts, size}, object_id, points [[x, y, label], ...], time_s; what is absent is left
    out. Points are sorted by x, y, label, prompts by object_id, then those by frame_index before those by time_s, then
    by these. Numbers without a fraction are written as integers, others as the shortest decimal that gives the same
    double.
    """
    digests = [
        pa.array([hashlib.sha256(text).hexdigest() for text in canonical_json(chunk.slice(start, _ROWS))], pa.string())
        for chunk in manifest.table.column("prompts").chunks
        for start in range(0, len(chunk), _ROWS)
    ]
    return pa.concat_arrays(digests) if digests else pa.array([], pa.string())


def canonical_json(prompts: pa.ListArray) -> list[bytes]:
    """The text of each row that is digested."""
    offsets, values = list_parts(prompts)
    column = dict(zip(values.type.names, values.flatten(), strict=True))
    frame, time = column["frame_index"], column["time_s"]
    parts = [
        _part('"box":[', _joined([_numbers(side) for side in column["box"].flatten()]), "]"),
        pc.if_else(column["correct"].fill_null(False), '"correct":true', pa.scalar(None, pa.string())),
        _part('"frame_index":', frame.cast(pa.string())),
        _part('"mask":{', _mask_json(column["mask"]), "}"),
        _part('"object_id":', column["object_id"].cast(pa.string())),
        _part('"points":[', _points_json(column["points"]), "]"),
        _part('"time_s":', _numbers(time)),
    ]
    texts = pc.binary_join_element_wise(*parts, ",", null_handling="skip").take(pa.array(prompt_order(offsets, values)))
    texts = pc.binary_join_element_wise("{", texts, "}", "")
    rows = pc.binary_join(make_list(offsets, texts), ",")
    texts_of_rows: list[bytes] = pc.binary_join_element_wise("[", rows, "]", "").cast(pa.binary()).to_pylist()
    return texts_of_rows


def _part(key: str, text: pa.Array, end: str = "") -> pa.Array:
    """`"key":text`, or null where nothing is given."""
    return pc.binary_join_element_wise(key, text, end, "")


def _joined(texts: list[pa.Array]) -> pa.Array:
    return pc.binary_join_element_wise(*texts, ",")


def _numbers(array: pa.Array) -> pa.Array:
    """Python's own formatting, whose shortest digits are a promise; Arrow's and numpy's may change with a release."""
    valid = flags(array.is_valid())
    numbers = np.asarray(array.fill_null(0)).astype(np.float64)
    distinct, inverse = np.unique(numbers, return_inverse=True)
    texts = [str(int(number)) if number.is_integer() else repr(number) for number in distinct.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(inverse, mask=~valid))


def _mask_json(mask: pa.StructArray) -> pa.Array:
    size, counts = mask.flatten()
    offsets, sides = list_parts(size)
    texts = make_list(offsets, sides.cast(pa.string()), null=flags(size.is_null()))
    escaped = pc.replace_substring(counts, "\\", "\\\\")  # the one character of RLE that JSON escapes
    return pc.binary_join_element_wise('"counts":"', escaped, '","size":[', pc.binary_join(texts, ","), "]", "")


def _points_json(points: pa.ListArray) -> pa.Array:
    offsets, values = list_parts(points)
    x, y, label = values.flatten()
    order = np.lexsort((label.to_numpy(), y.to_numpy(), x.to_numpy(), _owners(offsets)))
    texts = pc.binary_join_element_wise("[", _joined([_numbers(x), _numbers(y), label.cast(pa.string())]), "]", "")
    return pc.binary_join(make_list(offsets, texts.take(pa.array(order)), null=np.diff(offsets) == 0), ",")


def _owners(offsets: Indices) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
