"""Masks to polygons and back, for formats that know nothing else.

An outline is followed along the cracks between pixels, so that as a polygon it holds exactly the mask's pixel centres.
Formats whose readers draw through pixel centres (OpenCV's fillPoly, and so YOLO's) get it half a pixel further in.
Holes and separate parts are joined into one ring by paths there and back, which enclose nothing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.masks import rle

Points = npt.NDArray[np.float64]
"""(N, 2): x, y."""

MOST_RINGS = 64
"""Of a mask in more pieces (with its holes) only the largest so many are kept."""


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


def joined(rings: Sequence[Points], *, most: int = MOST_RINGS) -> Points:
    """One ring of several, each linked to the rest where it comes nearest, by a path there and back."""
    ring = rings[0]
    for other in rings[1:most]:
        gaps = ((ring[:, None, :] - other[None, :, :]) ** 2).sum(2)
        here, there = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        turned = np.concatenate((other[there:], other[: there + 1]))
        ring = np.concatenate((ring[: here + 1], turned, ring[here:]))
    return ring


def simplified(ring: Points, tolerance: float) -> Points:
    """The ring with as few of its points as keep every other one within `tolerance` pixels (Douglas-Peucker)."""
    if tolerance <= 0 or len(ring) < 5:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(1)))
    closed = np.concatenate((ring, ring[:1]))
    keep = np.zeros(len(closed), np.bool_)
    keep[[0, far, len(ring)]] = True
    todo = [(0, far), (far, len(ring))]
    while todo:
        start, stop = todo.pop()
        if stop - start < 2:
            continue
        line = closed[stop] - closed[start]
        points = closed[start + 1 : stop] - closed[start]
        length = float(np.hypot(*line))
        if length:
            along = np.clip(points @ line / length**2, 0, 1)
            distances = np.hypot(*(points - along[:, None] * line).T)
        else:
            distances = np.hypot(*points.T)
        worst = int(np.argmax(distances))
        if distances[worst] > tolerance:
            middle = start + 1 + worst
            keep[middle] = True
            todo += [(start, middle), (middle, stop)]
    kept = ring[keep[:-1]]
    return kept if len(kept) >= 3 else ring


def signed_area(ring: Points) -> float:
    """Area in pixels, positive where the ring runs clockwise on the screen."""
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def fill(rings: Sequence[Points], size: tuple[int, int]) -> rle.Mask:
    """Pixels whose centres lie inside an odd number of rings."""
    height, width = rle.check_size(size)
    toggles = np.zeros((height, width + 1), np.bool_)
    for ring in rings:
        if not np.isfinite(ring).all():
            raise ValueError("a polygon has a coordinate that is no finite number")
        start, stop = ring, np.roll(ring, -1, axis=0)
        falling = start[:, 1] > stop[:, 1]  # the same crossing both ways, so that a path there and back leaves nothing
        low, high = np.where(falling[:, None], stop, start), np.where(falling[:, None], start, stop)
        first = np.clip(np.ceil(low[:, 1] - 0.5), 0, height).astype(np.int64)
        last = np.clip(np.ceil(high[:, 1] - 0.5), 0, height).astype(np.int64)
        rows = last - first
        edge = np.repeat(np.arange(len(ring)), rows)
        y = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
        slope = (high[edge, 0] - low[edge, 0]) / (high[edge, 1] - low[edge, 1])
        x = low[edge, 0] + (y + 0.5 - low[edge, 1]) * slope
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        toggles ^= (
            (np.bincount(y * (width + 1) + column, minlength=toggles.size) & 1).astype(np.bool_).reshape(toggles.shape)
        )
    return np.logical_xor.accumulate(toggles, axis=1)[:, :-1]


def fill_through_centres(ring: Points, size: tuple[int, int]) -> rle.Mask:
    """What OpenCV's fillPoly draws: the inside and the line itself, of points cut to whole pixels."""
    height, width = rle.check_size(size)
    points = np.floor(np.clip(ring, -1e6, 1e6))
    line = Image.new("1", (width, height))
    closed = np.concatenate((points, points[:1])).astype(int)
    ImageDraw.Draw(line).line([(x, y) for x, y in closed.tolist()], fill=1)
    return fill([points + 0.5], size) | np.array(line, np.bool_)


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
    ring = joined([simplified(ring, tolerance) for ring in rings[:MOST_RINGS]])
    return np.asarray(ring + np.array([x_min, y_min]), np.float64)
