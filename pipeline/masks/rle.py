"""Masks to COCO's compressed run-length encoding and back, many at a time, with numpy alone.

COCO counts runs down the columns. Transposing a mask costs more than everything else, so `encode` never does: it finds
where a pixel differs from the one above, row by row as the mask lies in memory, and sorts those few places into column
order. The strings equal pycocotools' byte for byte.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from pipeline.errors import RleError

MAX_PIXELS = 1 << 26
"""Largest height x width that is decoded: twice an 8K frame."""

MAX_GROUPS = 7
"""Characters a single count may take: 5 bits each, so counts below 2**34."""

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class CocoRle(TypedDict):
    """What pycocotools calls an RLE object."""

    size: list[int]
    counts: str


def encode(masks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[str]:
    """COCO's compressed counts of masks (N, H, W); whatever is not zero is inside."""
    if masks.ndim != 3:
        raise ValueError(f"masks must be (N, H, W), not of shape {masks.shape}")
    columns = masks.transpose(0, 2, 1)
    if columns.flags.c_contiguous and not masks.flags.c_contiguous:
        return encode_columns(columns)
    _, height, width = masks.shape
    return _to_strings([_row_order_changes(_as_bytes(mask)) for mask in masks], height * width)


def encode_columns(masks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[str]:
    """The same for masks that lie transposed, (N, W, H): memory order is then COCO's order."""
    if masks.ndim != 3:
        raise ValueError(f"masks must be (N, W, H), not of shape {masks.shape}")
    _, width, height = masks.shape
    return _to_strings([_memory_order_changes(_as_bytes(mask).reshape(-1)) for mask in masks], height * width)


def decode(counts: str | bytes, size: Sequence[int]) -> Mask:
    """The mask (H, W) in column order, as pycocotools gives it. Refuses before it allocates anything large."""
    return decode_columns(counts, size).T


def decode_columns(counts: str | bytes, size: Sequence[int]) -> Mask:
    """The mask transposed, (W, H), contiguous: what `encode_columns` takes."""
    height, width = check_size(size)
    return columns_of_runs(runs_of(counts, size), (height, width), (0, width))


def columns_of_runs(runs: Ints, size: tuple[int, int], columns: tuple[int, int]) -> Mask:
    """Some columns [from, to) of the mask that runs describe, transposed: (to - from, H)."""
    height, width = size
    if columns != (0, width):
        ends = np.clip(np.cumsum(runs), columns[0] * height, columns[1] * height)
        runs = np.diff(ends, prepend=columns[0] * height)
    inside = np.zeros(len(runs), np.bool_)
    inside[1::2] = True
    return np.repeat(inside, runs).reshape(columns[1] - columns[0], height)


def area(counts: str | bytes) -> int:
    """Pixels inside."""
    return int(parse(counts)[1::2].sum())


def bbox(counts: str | bytes, size: Sequence[int]) -> tuple[int, int, int, int] | None:
    """x_min, y_min, x_max, y_max, the maxima exclusive; None where the mask is empty."""
    height, width = check_size(size)
    return bbox_of_runs(runs_of(counts, size), (height, width))


def bbox_of_runs(runs: Ints, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The same from runs."""
    height, _ = size
    ends = np.cumsum(runs)
    first, last = ends[:-1:2], ends[1::2] - 1
    filled = last >= first
    if not filled.any():
        return None
    first, last = first[filled], last[filled]
    (x_first, y_first), (x_last, y_last) = np.divmod(first, height), np.divmod(last, height)
    if (x_first != x_last).any():  # such a run holds a column's last row and the next one's first
        y_min, y_max = 0, height - 1
    else:
        y_min, y_max = int(y_first.min()), int(y_last.max())
    return int(x_first[0]), y_min, int(x_last[-1]) + 1, y_max + 1


def iou(one: str | bytes, other: str | bytes, size: Sequence[int]) -> float:
    """Area that two masks of [height, width] share over the area that either covers; 1 where both are empty."""
    ends = [np.cumsum(runs_of(counts, size)) for counts in (one, other)]
    edges = np.unique(np.concatenate([[0], *ends]))
    inside = [np.searchsorted(end, edges[:-1], "right") % 2 == 1 for end in ends]
    pixels = np.diff(edges)
    either = int(pixels[inside[0] | inside[1]].sum())
    return int(pixels[inside[0] & inside[1]].sum()) / either if either else 1.0


def to_coco(row: Mapping[str, Any]) -> CocoRle:
    """COCO's dict of one row of the masks table."""
    return {"size": [int(row["height"]), int(row["width"])], "counts": str(row["counts"])}


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """Height and width, if they are two sensible numbers."""
    try:
        height, width = (int(value) for value in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise RleError(f"RLE size {size!r} is not [height, width]") from error
    if height < 0 or width < 0 or height * width > MAX_PIXELS:
        raise RleError(f"RLE size {height} x {width} is refused: at most {MAX_PIXELS} pixels are allowed")
    return height, width


def runs_of(counts: str | bytes, size: Sequence[int]) -> Ints:
    """Lengths of the runs, outside first, checked against the size."""
    height, width = check_size(size)
    runs = parse(counts, most=height * width + 16)  # no encoder needs more than a character a pixel
    if int(runs.sum()) != height * width:
        raise RleError(f"RLE counts cover {int(runs.sum())} pixels, not the {height * width} of {height} x {width}")
    return runs


def parse(counts: str | bytes, *, most: int = MAX_PIXELS // 2) -> Ints:
    """Lengths of the runs, outside first, of a string that is well formed and of at most so many characters."""
    if isinstance(counts, str | bytes) and len(counts) > most:
        raise RleError(f"RLE counts of {len(counts)} characters are refused: at most {most} are allowed here")
    try:
        raw = counts if isinstance(counts, bytes) else counts.encode("ascii")
    except (UnicodeEncodeError, AttributeError) as error:
        raise RleError(f"RLE counts are not a compressed string in ASCII: {_excerpt(counts)}") from error
    digits = np.frombuffer(raw, np.uint8) - np.uint8(48)
    if digits.size == 0:
        raise RleError("RLE counts are empty; even an empty mask has one run")
    if digits.max() > 63 or digits[-1] & 32:
        raise RleError(f"RLE counts are malformed or cut off: {_excerpt(counts)}")
    ends = np.flatnonzero(digits < 32)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    lengths = ends - starts
    longest = int(lengths.max())
    if longest >= MAX_GROUPS:
        raise RleError(f"RLE counts hold a number of {longest + 1} characters; at most {MAX_GROUPS} are allowed")
    top = digits[ends].astype(np.int64)
    deltas = np.where(top & 16, top - 32, top) << (5 * lengths)
    for place in range(longest):
        has = lengths > place
        deltas[has] |= (digits[starts[has] + place].astype(np.int64) & 31) << (5 * place)
    deltas[1::2] = np.cumsum(deltas[1::2])
    deltas[2::2] = np.cumsum(deltas[2::2])
    if deltas.min() < 0 or deltas.max() > MAX_PIXELS:
        raise RleError(f"RLE counts hold a run that is negative or above {MAX_PIXELS}: {_excerpt(counts)}")
    return np.asarray(deltas, np.int64)


def strings_of(runs: Ints, sizes: Ints) -> list[str]:
    """The strings of many masks' runs, laid end to end; `sizes` says how many runs each has."""
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
    """Where, in column order, the value changes; before the first pixel it is zero."""
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
    """Where two rows of bytes differ. Changes are rare, so whole words are looked at first."""
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
    return strings_of(np.diff(bounds)[between], sizes)


def _excerpt(counts: object) -> str:
    text = repr(counts[:60] if isinstance(counts, str | bytes) else counts)
    return text if len(text) <= 60 else text[:60] + "..."
