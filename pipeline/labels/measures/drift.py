"""Forward-backward agreement: does tracking back from where an object was last seen meet the masks that led there?"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.masks import rle

Masklets = Iterable[tuple[int, pa.Table]]
"""Each object's mask rows in frame order, by ascending object id."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Where an object's second pass begins, and where it may end."""

    frame: int
    counts: str
    """COCO RLE of the mask there, which prompts the pass."""
    end: int


def turns(masklets: Masklets, *, backward: bool) -> dict[int, Turn]:
    """For each object the last frame it is seen on, or, for a `backward` first pass, the first one.

    Objects that are seen on no frame, or at the pass's own end alone, have no turn.
    """
    found = {}
    for object_id, rows in masklets:
        frames = rows.column("frame_index").to_numpy()
        seen = np.flatnonzero(rows.column("area").to_numpy() > 0)
        if not len(seen):
            continue
        at, end = (seen[0], frames[-1]) if backward else (seen[-1], frames[0])
        if frames[at] != end:
            found[object_id] = Turn(frame=int(frames[at]), counts=rows.column("counts")[at].as_py(), end=int(end))
    return found


def with_agreement(masklets: Masklets, again: Masklets, *, size: tuple[int, int]) -> Iterator[tuple[int, pa.Table]]:
    """The masklets with their column agreement filled from the second pass over the same objects.

    agreement = IoU of the frame's two masks of [height, width] = `size`, 1 where both are empty; null on the frame that
    prompted the second pass and where that did not come.
    """
    seconds = iter(again)
    second = next(seconds, None)
    for object_id, rows in masklets:
        while second is not None and second[0] < object_id:
            second = next(seconds, None)
        if second is not None and second[0] == object_id:
            yield object_id, _compared(rows, second[1], size)
        else:
            yield object_id, rows


def _compared(rows: pa.Table, again: pa.Table, size: tuple[int, int]) -> pa.Table:
    tracked = again.filter(pc.invert(again.column("is_prompted")))
    columns = (tracked.column(name).to_pylist() for name in ("frame_index", "counts"))
    other: Mapping[int, str] = dict(zip(*columns, strict=True))
    agreement = [
        rle.iou(counts, other[frame], size) if frame in other else None
        for frame, counts in zip(rows.column("frame_index").to_pylist(), rows.column("counts").to_pylist(), strict=True)
    ]
    place = rows.schema.get_field_index("agreement")
    return rows.set_column(place, rows.schema.field(place), pa.array(agreement, pa.float32()))
