"""Detections as the flat table from which prompts are made before tracking."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.manifest.kinds import SIDES, Mask
from pipeline.masks import rle


def flat_detections(table: pa.Table, *, prompt: str = "mask") -> pa.Table:
    """The flat columns of `detections_to_prompts`; a mask gives its box where there is none.

    Args:
        table: detections in GIVEN.
        prompt: `mask` keeps masks; `box` drops them.
    """
    box, mask = table["box"].combine_chunks(), table["mask"].combine_chunks()
    sides = {side: pc.struct_field(box, side) for side in SIDES}
    size, counts = pc.struct_field(mask, "size"), pc.struct_field(mask, "counts")
    missing = pc.and_(box.is_null(), mask.is_valid())
    if pc.any(missing).as_py():
        found = [_sides(m) if lacks else None for lacks, m in zip(missing.to_pylist(), mask.to_pylist(), strict=True)]
        for at, side in enumerate(SIDES):
            own = pa.array([None if each is None else each[at] for each in found], pa.float32())
            sides[side] = pc.coalesce(sides[side], own)
    columns = {"video_id": table["video_id"], "frame_index": table["frame_index"], "time_s": table["time_s"], **sides}
    columns |= {name: table[name] for name in ("score", "category", "track_id", "fps")}
    if prompt == "mask":
        sizes = size.to_pylist()
        for at, name in enumerate(("mask_height", "mask_width")):
            columns[name] = pa.array([None if each is None else each[at] for each in sizes], pa.int64())
        columns["mask_counts"] = counts
    needed = {"video_id", *SIDES}
    return pa.table({name: c for name, c in columns.items() if name in needed or c.null_count < len(table)})


def _sides(mask: dict[str, object]) -> tuple[int, int, int, int] | None:
    size, counts = Mask().parse(mask)
    return rle.bbox(counts, size)
