"""Forward-backward agreement: masks tracked back from an object's last visible frame, compared with the labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.masks import rle

Masklets = Iterable[tuple[int, pa.Table]]
"""Each object's mask rows in frame order, by ascending object id."""


@dataclass(frozen=True, kw_only=True)
class ReverseSeed:
    """The mask that prompts the second pass of an object's appearance, and where the pass ends."""

    object_id: int
    frame: int
    """Index of the prompted frame."""
    counts: str
    """COCO RLE of the mask on that frame."""
    end: int
    """Index of the last frame to compare."""


def reverse_seeds(
    masklets: Masklets, *, backward: bool, begins: Mapping[int, Sequence[int]] | None = None
) -> list[ReverseSeed]:
    """For each appearance its mask on its last visible frame, or on its first one if the first pass was `backward`.

    Appearances that are visible on no frame, or only on the frame where their second pass would end, are left out.

    Args:
        masklets: the rows of the first pass.
        backward: whether that was the backward pass.
        begins: for objects that end and begin again, the first frames of their later appearances, ascending.
    """
    found = []
    for object_id, rows in masklets:
        frames = rows.column("frame_index").to_numpy()
        visible = rows.column("area").to_numpy() > 0
        cuts = np.searchsorted(frames, (begins or {}).get(object_id, ()))
        for inside in np.split(np.arange(len(frames)), cuts):
            seen = inside[visible[inside]]
            if not len(seen):
                continue
            at, end = (seen[0], frames[inside[-1]]) if backward else (seen[-1], frames[inside[0]])
            if frames[at] != end:
                counts = rows.column("counts")[int(at)].as_py()
                found.append(ReverseSeed(object_id=object_id, frame=int(frames[at]), counts=counts, end=int(end)))
    return found


def paired(masklets: Masklets, second_pass: Masklets) -> Iterator[tuple[int, pa.Table, pa.Table | None]]:
    """Object id and rows of every masklet, with the object's rows of the second pass, or None if it has none."""
    others = iter(second_pass)
    other = next(others, None)
    for object_id, rows in masklets:
        while other is not None and other[0] < object_id:
            other = next(others, None)
        yield object_id, rows, other[1] if other is not None and other[0] == object_id else None


def agreement(rows: pa.Table, second_pass: pa.Table, *, size: tuple[int, int]) -> dict[str, pa.Array]:
    """Column agreement of the masks table: IoU of the frame's masks in both passes, 1 where both are empty.

    Null on the frame that prompted the second pass and on frames it did not reach.

    Args:
        rows: one object's mask rows.
        second_pass: the same object's rows of the second pass.
        size: height and width of the masks.
    """
    tracked = second_pass.filter(pc.invert(second_pass.column("is_prompted")))
    columns = (tracked.column(name).to_pylist() for name in ("frame_index", "counts"))
    other: Mapping[int, str] = dict(zip(*columns, strict=True))
    frames, masks = (rows.column(name).to_pylist() for name in ("frame_index", "counts"))
    values = [
        rle.iou(counts, other[frame], size) if frame in other else None
        for frame, counts in zip(frames, masks, strict=True)
    ]
    return {"agreement": pa.array(values, pa.float32())}
