"""Masks to polygons and back, for formats that hold only polygons.

An outline runs along the edges between pixels, so that the polygon contains exactly the pixel centres of the mask.
Readers that draw through pixel centres (OpenCV's fillPoly, and so YOLO's) need it half a pixel further inside. Holes
and separate parts are joined into one ring by paths there and back, which enclose no area:

    mask          outlines                 joined into one ring

    # # # # #     A-------------------B    A B C h e f g h C D
    # # # # #     |                   |
    # # . . #     |       f-------e   |    C and h are the nearest pair of points; the path
    # # # # #     |       g-------h   |    from C to h is run there and back.
                  D-------------------C

An outer ring runs clockwise on the screen (A B C D), a hole counterclockwise (e f g h). Pixels that touch at a corner
belong together: there the outline passes from one to the other.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.masks import rle
from pipeline.masks.joining import joined

Points = npt.NDArray[np.float64]
"""(N, 2): x, y."""
Ints = npt.NDArray[np.int64]

MAX_RINGS = 64
"""Largest number of rings (parts and holes) kept per mask; the largest rings are kept."""


def outlines(mask: rle.Mask, *, through_centres: bool = False, max_rings: int | None = None) -> list[Points]:
    """Closed rings around a mask (H, W), outer ones clockwise on the screen, holes counterclockwise; largest first.

    Args:
        through_centres: run through the centres of the outermost pixels instead of around them.
        max_rings: keep only this many rings, the largest.
    """
    corners = _corners(mask)
    if corners is None:
        return []
    xs, ys, cross, right, down = corners
    # along a row or a column of pixel edges, corners alternately begin and end an edge of the outline
    horizontal = np.arange(len(xs)) ^ 1
    order = np.lexsort((down, ys, xs))
    vertical = np.empty(len(xs), np.int64)
    vertical[order] = order[horizontal]
    first = np.minimum(xs, xs[horizontal])
    below = _at(mask, ys, first)  # the inside of the horizontal edge is below it
    starts = np.flatnonzero(below == (xs < xs[horizontal]))
    path, stops = _cycles(starts.tolist(), horizontal.tolist(), vertical.tolist())
    if through_centres:
        east = _at(mask, np.minimum(ys, ys[vertical]), xs)
        inwards = np.column_stack((np.where(east, 0.5, -0.5), np.where(below, 0.5, -0.5)))
        along = np.column_stack((np.where(right, 0.5, -0.5), np.where(down, 0.5, -0.5)))
        points, stops = _through_centres(path, stops, np.column_stack((xs, ys)), cross, inwards, along)
    else:
        points = np.column_stack((xs[path], ys[path])).astype(np.float64)
    begins = np.concatenate(([0], stops[:-1]))
    largest = np.argsort(-np.abs(_signed_areas(points, begins, stops)), kind="stable")[:max_rings]
    return [points[begins[ring] : stops[ring]] for ring in largest.tolist()]


def simplified(ring: Points, tolerance: float) -> Points:
    """The ring with fewer points, such that dropped ones are within `tolerance` pixels of it (Douglas-Peucker)."""
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
        falling = start[:, 1] > stop[:, 1]  # the same crossing in both directions: a path there and back cancels
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


def _at(mask: rle.Mask, y: Ints, x: Ints) -> rle.Mask:
    """Values at pixels of the mask, False outside of it."""
    height, width = mask.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return mask[np.where(inside, y, 0), np.where(inside, x, 0)] & inside


def _corners(mask: rle.Mask) -> tuple[Ints, Ints, rle.Mask, rle.Mask, rle.Mask] | None:
    """Corners where an outline turns, in rows: x, y, whether four pixels meet crosswise there, and whether the edges of
    the outline at it go right and down. Crosswise ones are listed twice, once for each of the outlines that touch."""
    padded = np.pad(mask, 1).view(np.uint8)
    rows = padded[:, :-1] | padded[:, 1:] << 1  # of each pair of neighbours in a row
    code = rows[:-1] | rows[1:] << 2
    places = np.flatnonzero(_TURNS.take(code))
    if not len(places):
        return None
    ys, xs = np.divmod(places, code.shape[1])
    codes = code.reshape(-1)[places]
    cross = (codes == 0b1001) | (codes == 0b0110)
    twice = np.repeat(np.arange(len(ys)), 1 + cross)
    xs, ys, codes, cross = xs[twice], ys[twice], codes[twice], cross[twice]
    second = np.zeros(len(xs), np.bool_)
    second[1:] = twice[1:] == twice[:-1]
    right = np.where(cross, second, _RIGHT[codes])
    # touching pixels belong together, also across a corner: the outline passes from one to the other
    down = np.where(codes == 0b1001, ~second, np.where(codes == 0b0110, second, _DOWN[codes]))
    return xs, ys, cross, right, down


def _cycles(starts: Sequence[int], horizontal: Sequence[int], vertical: Sequence[int]) -> tuple[Ints, Ints]:
    """The corners of all rings, each ring begun along a row at one of the starts, and where each ring stops."""
    seen = bytearray(len(horizontal))
    path: list[int] = []
    stops: list[int] = []
    for start in starts:
        if seen[start]:
            continue
        at = start
        while not seen[at]:
            end = horizontal[at]
            seen[at] = seen[end] = 1
            path += (at, end)
            at = vertical[end]
        stops.append(len(path))
    return np.array(path), np.array(stops)


def _through_centres(
    path: Ints, stops: Ints, corners: Ints, cross: rle.Mask, inwards: Points, along: Points
) -> tuple[Points, Ints]:
    """The rings moved inwards, and where each stops. Between two pixels that touch at a corner, a ring is straight.

    Args:
        path, stops: corners of all rings, and where each ring stops.
        corners: x, y of each corner.
        inwards: the step from each corner to the centre of the pixel inside, by x and y.
        along: the step along the edges at each corner.
    """
    crossing = cross[path]
    here, step, side = corners[path], inwards[path], along[path]
    beside = here + np.column_stack((step[:, 0], np.where(crossing, side[:, 1], step[:, 1])))
    level = here + np.column_stack((np.where(crossing, side[:, 0], step[:, 0]), step[:, 1]))
    arrives_level = (np.arange(len(path)) % 2 == 1)[:, None]  # a ring begins along a row, and has an even number
    points = np.stack((np.where(arrives_level, level, beside), np.where(arrives_level, beside, level)), axis=1)
    points = points.reshape(-1, 2)
    stops = 2 * stops
    begins = np.concatenate(([0], stops[:-1]))
    before = np.arange(-1, len(points) - 1)
    before[begins] = stops - 1
    kept = (points != points[before]).any(1)
    kept[begins] |= ~np.logical_or.reduceat(kept, begins)  # of a single pixel, one point
    return points[kept], np.cumsum(np.add.reduceat(kept.astype(np.int64), begins))


def _signed_areas(points: Points, begins: Ints, stops: Ints) -> Points:
    """`signed_area` of each ring; exact for whole and half coordinates."""
    after = np.arange(1, len(points) + 1)
    after[stops - 1] = begins
    (x, y), (next_x, next_y) = points.T, points[after].T
    return np.asarray(np.add.reduceat(x * next_y - next_x * y, begins) / 2)


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
    rings = outlines(part.T, through_centres=through_centres, max_rings=MAX_RINGS)
    ring = joined([simplified(ring, tolerance) for ring in rings])
    return np.asarray(ring + np.array([x_min, y_min]), np.float64)
