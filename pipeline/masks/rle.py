"""Masks to COCO's compressed run-length encoding and back, many at a time, with numpy alone.

COCO counts runs down the columns. Transposing a mask costs more than all other steps together, so `encode` does not
transpose: it finds where a pixel differs from the one above, row by row in memory order, and sorts those few positions
into column order. The strings equal pycocotools' byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from pipeline.errors import RleError

MAX_PIXELS = 1 << 26
"""Largest height x width that is decoded: twice the pixels of an 8K frame."""

MAX_GROUPS = 7
"""Most characters of a single count: 5 bits each, so counts are below 2**34."""

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class CocoRle(TypedDict):
    """What pycocotools calls an RLE object."""

    size: list[int]
    counts: str


def encode(masks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[str]:
    """COCO's compressed counts of masks (N, H, W); every nonzero pixel is inside."""
    if masks.ndim != 3:
        raise ValueError(f"masks must be (N, H, W), not of shape {masks.shape}")
    columns = masks.transpose(0, 2, 1)
    if columns.flags.c_contiguous and not masks.flags.c_contiguous:
        return encode_columns(columns)
    _, height, width = masks.shape
    return _to_strings([_row_order_changes(_as_bytes(mask)) for mask in masks], height * width)


def encode_columns(masks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[str]:
    """COCO's compressed counts of transposed masks (N, W, H), whose memory order is COCO's order."""
    if masks.ndim != 3:
        raise ValueError(f"masks must be (N, W, H), not of shape {masks.shape}")
    _, width, height = masks.shape
    return _to_strings([_memory_order_changes(_as_bytes(mask).reshape(-1)) for mask in masks], height * width)


def decode(counts: str | bytes, size: Sequence[int]) -> Mask:
    """The mask (H, W) in column order, as pycocotools returns it.

    Raises:
        RleError: The size or the counts are not allowed; raised before anything large is allocated.
    """
    return decode_columns(counts, size).T


def decode_columns(counts: str | bytes, size: Sequence[int]) -> Mask:
    """The transposed mask (W, H), contiguous, as `encode_columns` accepts it."""
    height, width = check_size(size)
    return columns_of_runs(decompress(counts, size), (height, width), (0, width))


def columns_of_runs(runs: Ints, size: tuple[int, int], columns: tuple[int, int]) -> Mask:
    """The columns [from, to) of the mask with these runs, transposed: (to - from, H)."""
    height, width = size
    if columns != (0, width):
        ends = np.clip(np.cumsum(runs), columns[0] * height, columns[1] * height)
        runs = np.diff(ends, prepend=columns[0] * height)
    inside = np.zeros(len(runs), np.bool_)
    inside[1::2] = True
    return np.repeat(inside, runs).reshape(columns[1] - columns[0], height)


def area(counts: str | bytes) -> int:
    """Number of pixels inside."""
    return int(parse(counts)[1::2].sum())


def bbox(counts: str | bytes, size: Sequence[int]) -> tuple[int, int, int, int] | None:
    """x_min, y_min, x_max, y_max, with exclusive maxima; None if the mask is empty."""
    height, width = check_size(size)
    return bbox_of_runs(decompress(counts, size), (height, width))


def bbox_of_runs(runs: Ints, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """`bbox` of a mask given by its runs."""
    height, _ = size
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1
    filled = last >= first
    if not filled.any():
        return None
    first, last = first[filled], last[filled]
    (x_first, y_first), (x_last, y_last) = np.divmod(first, height), np.divmod(last, height)
    if (x_first != x_last).any():  # such a run contains the last row of one column and the first row of the next
        y_min, y_max = 0, height - 1
    else:
        y_min, y_max = int(y_first.min()), int(y_last.max())
    return int(x_first[0]), y_min, int(x_last[-1]) + 1, y_max + 1


def iou(one: str | bytes, other: str | bytes, size: Sequence[int]) -> float:
    """Intersection over union of two masks of [height, width]; 1 where both are empty."""
    return iou_of_runs(decompress(one, size), decompress(other, size))


def iou_of_runs(one: Ints, other: Ints) -> float:
    """Intersection over union of two masks of one size, given by their runs; 1 where both are empty."""
    area_one, area_other = int(one[1::2].sum()), int(other[1::2].sum())
    if not area_one or not area_other:
        return float(area_one == area_other)
    ends = np.cumsum(other)
    starts, stops = ends[:-1:2], ends[1::2]
    edges = np.concatenate((np.zeros(1, np.int64), np.cumsum(one)))
    inside_before = np.zeros(len(edges))  # pixels of `one` before each of its edges, linear between them
    np.cumsum(np.where(np.arange(len(one)) & 1, one, 0), out=inside_before[1:])
    shared = int((np.interp(stops, edges, inside_before) - np.interp(starts, edges, inside_before)).sum())
    return shared / (area_one + area_other - shared)


def to_coco(row: Mapping[str, Any]) -> CocoRle:
    """COCO's RLE object of one row of the masks table."""
    return {"size": [int(row["height"]), int(row["width"])], "counts": str(row["counts"])}


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width as integers.

    Raises:
        RleError: They are not two numbers from 0, or their product exceeds MAX_PIXELS.
    """
    try:
        height, width = (int(value) for value in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise RleError(f"RLE size {size!r} is not [height, width]") from error
    if height < 0 or width < 0 or height * width > MAX_PIXELS:
        raise RleError(f"RLE size {height} x {width} is not allowed: at most {MAX_PIXELS} pixels")
    return height, width


def decompress(counts: str | bytes, size: Sequence[int]) -> Ints:
    """Lengths of the runs of a mask of [height, width], outside first.

    Raises:
        RleError: The string is malformed, or its runs do not add up to height x width.
    """
    height, width = check_size(size)
    runs = parse(counts, max_characters=height * width + 16)  # no encoder needs more than one character per pixel
    if int(runs.sum()) != height * width:
        raise RleError(f"RLE counts cover {int(runs.sum())} pixels, not the {height * width} of {height} x {width}")
    return runs


def parse(counts: str | bytes, *, max_characters: int = MAX_PIXELS // 2) -> Ints:
    """Lengths of the runs of a compressed string, outside first, whatever the size of the mask.

    Raises:
        RleError: The string is malformed or longer than `max_characters`.
    """
    if isinstance(counts, str | bytes) and len(counts) > max_characters:
        raise RleError(f"RLE counts have {len(counts)} characters; allowed here are at most {max_characters}")
    try:
        raw = counts if isinstance(counts, bytes) else counts.encode("ascii")
    except (UnicodeEncodeError, AttributeError) as error:
        raise RleError(f"RLE counts are not a compressed string in ASCII: {_excerpt(counts)}") from error
    digits = np.frombuffer(raw, np.uint8) - np.uint8(48)
    if digits.size == 0:
        raise RleError("RLE counts are empty; even an empty mask has one run")
    if digits.max() > 63 or digits[-1] & 32:
        raise RleError(f"RLE counts are malformed or truncated: {_excerpt(counts)}")
    ends = np.flatnonzero(digits < 32)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    longest = int(lengths.max())
    if longest >= MAX_GROUPS:
        raise RleError(f"RLE counts contain a number of {longest + 1} characters; allowed are at most {MAX_GROUPS}")
    top = digits[ends].astype(np.int64)
    deltas = np.where(top & 16, top - 32, top) << (5 * lengths)
    for place in range(longest):
        has = lengths > place
        deltas[has] |= (digits[starts[has] + place].astype(np.int64) & 31) << (5 * place)
    deltas[1::2] = np.cumsum(deltas[1::2])
    deltas[2::2] = np.cumsum(deltas[2::2])
    if deltas.min() < 0 or deltas.max() > MAX_PIXELS:
        raise RleError(f"RLE counts contain a run below 0 or above {MAX_PIXELS}: {_excerpt(counts)}")
    return np.asarray(deltas, np.int64)


def compress(runs: Ints, sizes: Ints) -> list[str]:
    """The compressed strings of N masks; `runs` are their runs end to end, `sizes` (N,) the number of runs of each."""
    if not len(sizes):
        return []
    starts = np.cumsum(sizes) - sizes
    deltas = runs.astype(np.int64)
    deltas[3:] = runs[3:] - runs[1:-2]
    for place in range(3):
        heads = starts[sizes > place] + place
        deltas[heads] = runs[heads]
    magnitude = deltas ^ (deltas >> 63)
    lengths = np.ones(len(deltas), np.int64)
    largest, bits = int(magnitude.max()), 4
    while largest >> bits:
        lengths += magnitude >= (1 << bits)
        bits += 5
    groups = int(lengths.max())
    characters = np.empty((len(deltas), groups), np.uint8)
    for place in range(groups):
        more = lengths > place + 1
        characters[:, place] = ((deltas >> (5 * place)) & 31) + 48 + (more * 32)
    text = characters[np.arange(groups) < lengths[:, None]].tobytes().decode("ascii")
    stops = np.cumsum(lengths)[starts + sizes - 1].tolist()
    return [text[start:stop] for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _as_bytes(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    mask = mask if mask.dtype == np.bool_ else mask != 0
    return np.ascontiguousarray(mask).view(np.uint8)


def _row_order_changes(mask: npt.NDArray[np.uint8]) -> Ints:
    """Positions in column order where the value changes; the value before the first pixel is zero."""
    height, width = mask.shape
    if mask.size == 0:
        return np.empty(0, np.int64)
    flat = mask.reshape(-1)
    below = _nonzero_xor(flat[width:], flat[:-width])
    y, x = np.divmod(below, width)
    top = np.concatenate((mask[0, :1], mask[0, 1:] ^ mask[-1, :-1]))
    places = np.concatenate((x * height + y + 1, np.flatnonzero(top) * height))
    places.sort()
    return places


def _memory_order_changes(flat: npt.NDArray[np.uint8]) -> Ints:
    if flat.size == 0:
        return np.empty(0, np.int64)
    inner = _nonzero_xor(flat[1:], flat[:-1]) + 1
    return np.concatenate((np.zeros(int(flat[0] != 0), np.int64), inner))


def _nonzero_xor(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> Ints:
    """Positions where two rows of bytes differ. Differences are rare, so whole words are compared first."""
    padded = np.empty(-(-a.size // 8) * 8, np.uint8)
    padded[a.size :] = 0
    np.bitwise_xor(a, b, out=padded[: a.size])
    words = np.flatnonzero(padded.view(np.uint64) != 0)
    word, byte = np.nonzero(padded.reshape(-1, 8)[words])
    return words[word] * 8 + byte


def _to_strings(changes: Sequence[Ints], pixels: int) -> list[str]:
    if not changes:
        return []
    sizes = np.array([len(places) + 1 for places in changes])
    bounds = np.zeros(int(sizes.sum()) + len(changes), np.int64)
    heads = np.cumsum(sizes + 1) - sizes - 1
    inner = np.ones(len(bounds), np.bool_)
    inner[heads] = False
    inner[heads + sizes] = False
    bounds[inner] = np.concatenate(changes)
    bounds[heads + sizes] = pixels
    between = np.ones(len(bounds) - 1, np.bool_)
    between[heads[1:] - 1] = False
    return compress(np.diff(bounds)[between], sizes)


def _excerpt(counts: object) -> str:
    text = repr(counts[:60] if isinstance(counts, str | bytes) else counts)
    return text if len(text) <= 60 else text[:60] + "..."
