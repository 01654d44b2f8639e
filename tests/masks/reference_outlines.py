"""The first implementation of outlines, which compares all pairs of points: `pipeline.masks.outlines` must equal it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.masks import rle
from pipeline.masks.outlines import Points, signed_area, simplified

MAX_RINGS = 64


def outlines(mask: rle.Mask, *, through_centres: bool = False) -> list[Points]:
    """Closed rings around the mask, outer ones clockwise on the screen, holes the other way; largest first.

    Args:
        through_centres: run through the centres of the outermost pixels instead of around them.
    """
    corners = _corners(mask)
    if corners is None:
        return []
    xs, ys, inner, right, down = corners
    count = len(xs)
    # along a row of cracks, corners begin and end edges in turn, and along a column of cracks too
    horizontal = (np.arange(count) ^ 1).tolist()
    order = np.lexsort((down, ys, xs))
    vertical_of = np.empty(count, np.int64)
    vertical_of[order] = order[np.arange(count) ^ 1]
    vertical = vertical_of.tolist()
    padded = np.pad(mask, 1)
    first = np.minimum(xs, xs[horizontal])
    below = padded[ys + 1, first + 1]  # is the edge's inside below it?
    top = np.minimum(ys, ys[vertical])
    east = padded[top + 1, xs + 1]
    starts = np.where(below == (xs < xs[horizontal]))[0].tolist()
    seen = bytearray(count)
    rings = []
    for start in starts:
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            end = horizontal[at]
            seen[at] = seen[end] = 1
            ring += [at, end]
            at = vertical[end]
        rings.append(np.array(ring))
    if through_centres:
        x_in, y_in = np.where(east, 0.5, -0.5), np.where(below, 0.5, -0.5)
        along_x = np.where(right, 0.5, -0.5)
        along_y = np.where(down, 0.5, -0.5)
        drawn = [_through_centres(ring, xs, ys, inner, x_in, y_in, along_x, along_y) for ring in rings]
    else:
        drawn = [np.column_stack((xs[ring], ys[ring])).astype(np.float64) for ring in rings]
    return sorted(drawn, key=lambda ring: -abs(signed_area(ring)))


def joined(rings: Sequence[Points], *, most: int = MAX_RINGS) -> Points:
    """One ring of several, each linked to the rest where it comes nearest, by a path there and back."""
    ring = rings[0]
    for other in rings[1:most]:
        gaps = ((ring[:, None, :] - other[None, :, :]) ** 2).sum(2)
        here, there = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        turned = np.concatenate((other[there:], other[: there + 1]))
        ring = np.concatenate((ring[: here + 1], turned, ring[here:]))
    return ring


def _corners(mask: rle.Mask) -> tuple[npt.NDArray[np.int64], ...] | None:
    """Corners where an outline turns, in rows: x, y, whether four pixels meet crosswise there, and whether the edges of
    the outline at it go right and down. Crosswise ones stand twice, once for each of the outlines that touch there."""
    padded = np.pad(mask, 1).astype(np.uint8)
    code = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    turns = _TURNS[code]
    ys, xs = np.nonzero(turns)
    if not len(ys):
        return None
    codes = code[ys, xs]
    cross = (codes == 0b1001) | (codes == 0b0110)
    twice = np.repeat(np.arange(len(ys)), 1 + cross)
    xs, ys, codes, cross = xs[twice], ys[twice], codes[twice], cross[twice]
    second = np.zeros(len(xs), np.bool_)
    second[1:] = twice[1:] == twice[:-1]
    right = np.where(cross, second, _RIGHT[codes])
    # touching pixels belong together, also across a corner: the outline passes from one to the other
    down = np.where(codes == 0b1001, ~second, np.where(codes == 0b0110, second, _DOWN[codes]))
    return xs, ys, cross, right, down


def _through_centres(
    ring: npt.NDArray[np.int64],
    xs: npt.NDArray[np.int64],
    ys: npt.NDArray[np.int64],
    cross: npt.NDArray[np.int64],
    x_in: Points,
    y_in: Points,
    along_x: Points,
    along_y: Points,
) -> Points:
    """The ring moved inwards; where it crosses a corner, it goes straight from one pixel's centre to the other's."""
    beside = np.column_stack((xs[ring] + x_in[ring], ys[ring] + np.where(cross[ring], along_y[ring], y_in[ring])))
    level = np.column_stack((xs[ring] + np.where(cross[ring], along_x[ring], x_in[ring]), ys[ring] + y_in[ring]))
    arrives_level = np.arange(len(ring)) % 2 == 1  # a ring is begun along a row
    first = np.where(arrives_level[:, None], level, beside)
    second = np.where(arrives_level[:, None], beside, level)
    points = np.stack((first, second), axis=1).reshape(-1, 2)
    moved = np.any(points != np.roll(points, 1, axis=0), axis=1)
    return points[moved] if moved.any() else points[:1]


def _tables() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    codes = np.arange(16)
    nw, ne, sw, se = ((codes >> bit) & 1 for bit in range(4))
    up, down, left, right = nw != ne, sw != se, nw != sw, ne != se
    return (up | down) & (left | right), right, down


_TURNS, _RIGHT, _DOWN = _tables()


def polygon(counts: str, size: tuple[int, int], *, tolerance: float = 0.0, through_centres: bool = False) -> Points:
    """One ring for a whole RLE mask of [height, width]; no points where it is empty."""
    box = rle.bbox(counts, size)
    if box is None:
        return np.empty((0, 2))
    x_min, y_min, x_max, y_max = box
    part = rle.columns_of_runs(rle.decompress(counts, size), size, (x_min, x_max))[:, y_min:y_max]
    rings = outlines(part.T, through_centres=through_centres)
    ring = joined([simplified(ring, tolerance) for ring in rings[:MAX_RINGS]])
    return np.asarray(ring + np.array([x_min, y_min]), np.float64)
