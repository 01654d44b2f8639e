"""Detections as adapters collect them, in batches whose rows know the file and the row that they come from."""

from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipeline.detection.sources.columns import SIDES
from pipeline.manifest.bad_rows import BadRow, clip
from pipeline.manifest.kinds import Mask

Origin = tuple[str | None, int]
"""The file, where there are several, and the row in it, from 0."""
BATCH_ROWS = 65_536

FLAT = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame_index", pa.int64()),
        *((side, pa.float64()) for side in SIDES),
        ("mask", Mask.type),
        ("category", pa.string()),
        ("score", pa.float64()),
        ("track_id", pa.string()),
    ]
)


class Rows:
    """Collects detections, and rows that cannot be read."""

    def __init__(self) -> None:
        self.bad: list[BadRow] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in FLAT.names}
        self._origins: list[Origin] = []

    def __len__(self) -> int:
        return len(self._origins)

    def add(
        self,
        video_id: str,
        frame: int,
        origin: Origin,
        *,
        box: tuple[float, float, float, float] | None = None,
        mask: tuple[tuple[int, int], str] | None = None,
        category: str | None = None,
        score: float | None = None,
        track_id: str | None = None,
    ) -> None:
        """Add a detection; without box and mask a look that saw nothing."""
        record = None if mask is None else {"size": list(mask[0]), "counts": mask[1]}
        values = (video_id, frame, *(box or (None,) * 4), record, category, score, track_id)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self._origins.append(origin)

    def refuse(self, origin: Origin, column: str, value: object, rule: str, *, video_id: str | None = None) -> None:
        """Add a row that cannot be read."""
        self.bad.append(BadRow(origin[1], video_id, column, clip(value), rule, origin[0]))

    def batch(self) -> pa.RecordBatch:
        """The detections in the columns of FLAT."""
        return pa.RecordBatch.from_pydict(self._columns, schema=FLAT)

    def placed(self, bad: BadRow) -> BadRow:
        """A bad row of the batch, with its place in its file."""
        file, row = self._origins[bad.row]
        return replace(bad, row=row, file=file)
