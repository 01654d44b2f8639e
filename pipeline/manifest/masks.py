"""Mask prompts of a whole batch: read from flat columns, and their run lengths checked as `rle.decode` would."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.bad_rows import clip
from pipeline.manifest.conform import Flags, Indices, Notes, conform, flags, list_parts, make_list, struct
from pipeline.manifest.findings import Findings
from pipeline.masks.rle import MAX_GROUPS, MAX_PIXELS

MAX_COUNTS = 2**20
"""Characters of one mask: some 300,000 runs."""

_AT_ONCE = 2**17  # characters; several arrays of eight bytes each


def flat_masks(columns: Mapping[str, pa.Array], notes: Notes) -> pa.Array:
    """Masks as structs of size and counts, from mask_height, mask_width and mask_counts of the flat prompt table."""
    count = len(next(iter(columns.values())))
    height, width = (
        conform(columns.get(name, pa.nulls(count)), pa.int32(), column=name, notes=notes)
        for name in ("mask_height", "mask_width")
    )
    both = pa.concat_arrays([height, width]).take(pa.array(np.arange(2 * count).reshape(2, count).T.ravel()))
    absent = pc.and_(height.is_null(), width.is_null()).to_numpy(zero_copy_only=False)
    size = make_list(np.arange(0, 2 * count + 1, 2), both, null=absent)
    return struct({"size": size, "counts": columns.get("mask_counts", pa.nulls(count))})


def check_masks(mask: pa.StructArray, found: Findings) -> None:
    given = flags(mask.is_valid())
    if not given.any():
        return
    sizes, counts = mask.flatten()
    height, width = _sides(sizes, given)
    in_size = (height >= 1) & (width >= 1) & (height * width <= MAX_PIXELS)
    found.prompts_where(
        given & ~in_size,
        "mask.size",
        lambda i: sizes[i].as_py(),
        f"must be [height, width], both at least 1, at most {MAX_PIXELS} pixels",
    )

    def report(wrong: Flags, rule: str) -> None:
        found.prompts_where(given & wrong, "mask.counts", lambda i: counts[i].as_py(), rule)

    offsets, data = text_bytes(counts)
    length = np.diff(offsets)
    report(length == 0, "missing; a mask needs the compressed counts of a COCO RLE")
    report(length > MAX_COUNTS, f"at most {MAX_COUNTS} characters are allowed")
    covered, inside = np.full(len(given), -1), np.full(len(given), -1)
    readable = np.flatnonzero(given & in_size & (length > 0) & (length <= MAX_COUNTS))
    for some in np.split(readable, np.flatnonzero(np.diff(np.cumsum(length[readable]) // _AT_ONCE)) + 1):
        if len(some) == 0:
            continue
        covered[some], inside[some] = run_totals([data[offsets[i] : offsets[i + 1]] for i in some])
    report(covered < 0, "is not the compressed counts of a COCO RLE")
    for i in np.flatnonzero(given & (covered != height * width)):
        rule = f"covers {covered[i]} pixels, not the {height[i] * width[i]} of mask.size"
        found.add_prompt(int(i), "mask.counts", clip(counts[i].as_py()), rule)
    report(inside == 0, "the mask is empty; a prompt needs at least one pixel inside")


def run_totals(texts: list[npt.NDArray[np.uint8]]) -> tuple[Indices, Indices]:
    """For each RLE text the pixels that all its runs cover and those inside; -1 where it is malformed.

    The rules of `rle.parse` for a batch of texts: 5 to 6 times as fast (10,000 masks of 367 characters in 0.23 s
    instead of 1.3 s), which is two minutes of the reading of a million mask prompts.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    digits = np.concatenate(texts) - np.uint8(48)
    stops = np.cumsum(lengths)
    bad = (digits[stops - 1] & 32) != 0
    bad |= np.maximum.reduceat(digits, stops - lengths) > 63
    if bad.any():
        digits[np.repeat(bad, lengths)] = 0  # runs of 0, so that the others can be read

    ends = np.flatnonzero(digits < 32)
    groups = np.diff(ends, prepend=-1)
    first = np.searchsorted(ends, stops - lengths)
    bad |= np.maximum.reduceat(groups, first) >= MAX_GROUPS
    runs = (digits[ends].astype(np.int64) ^ 16) - 16  # the sign is the fifth bit
    longer = np.flatnonzero(groups > 1)
    for place in range(1, MAX_GROUPS - 1):
        runs[longer] = (runs[longer] << 5) | (digits[ends[longer] - place] & 31)
        longer = longer[groups[longer] > place + 1]

    covered, inside = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    stop = np.append(first[1:], len(runs))
    for parity in (0, 1):  # each run from the fourth on is stored as the difference to the last but one
        low, high = (first - parity + 1) // 2, (stop - parity + 1) // 2
        leads = np.flatnonzero((first % 2 == parity) & (high > low))
        chain = runs[parity::2]
        before = np.append(0, np.cumsum(chain))
        base = before[low]
        base[leads] = before[low[leads] + 1]  # the first run starts no chain
        values = before[1:] - np.repeat(base, high - low)
        values[low[leads]] = chain[low[leads]]
        runs[parity::2] = values
        total = np.append(0, np.cumsum(values))
        total = total[high] - total[low]
        covered += total
        inside += np.where(first % 2 == parity, 0, total)
    bad |= (np.minimum.reduceat(runs, first) < 0) | (np.maximum.reduceat(runs, first) > MAX_PIXELS)
    return np.where(bad, -1, covered), np.where(bad, -1, inside)


def text_bytes(array: pa.StringArray) -> tuple[Indices, npt.NDArray[np.uint8]]:
    """Offsets (nulls are empty) and the bytes of all texts."""
    array = pa.concat_arrays([array.fill_null("")])
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4).astype(np.int64)
    data = array.buffers()[2]
    return offsets, np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)


def _sides(sizes: pa.ListArray, given: Flags) -> tuple[Indices, Indices]:
    """Height and width; 0 where the size is not two numbers."""
    offsets, numbers = list_parts(sizes)
    paired = given & (np.diff(offsets) == 2)
    first = offsets[:-1][paired]
    side = numbers.fill_null(0).to_numpy().astype(np.int64)
    height, width = np.zeros(len(given), np.int64), np.zeros(len(given), np.int64)
    height[paired], width[paired] = side[first], side[first + 1]
    return height, width
