"""Default prompts: the same for every video, without detections or clicks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from pipeline.errors import UsageError

Kind = Literal["centre-box", "full-frame", "points", "boxes"]
SIDES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True, kw_only=True)
class PromptRule:
    """The same prompts for every video, in its first frame; each point or box is a separate object, from 1 on."""

    kind: Kind
    rows: int = 1
    columns: int = 1
    """Rows and columns of a grid of points or boxes."""
    fraction: float = 0.5
    """The centre box's share of width and height."""

    @classmethod
    def parse(cls, text: str) -> "PromptRule":
        """`centre-box`, `centre-box:0.3`, `full-frame`, `points:3x4` or `boxes:3x4` (rows x columns)."""
        if text in ("centre-box", "full-frame"):
            return cls(kind=cast(Kind, text))
        if match := re.fullmatch(r"(points|boxes):([1-9]\d?)x([1-9]\d?)", text):
            return cls(kind=cast(Kind, match[1]), rows=int(match[2]), columns=int(match[3]))
        if (match := re.fullmatch(r"centre-box:(\d*\.?\d+)", text)) and 0 < float(match[1]) <= 1:
            return cls(kind="centre-box", fraction=float(match[1]))
        raise UsageError(
            f"prompt rule {text!r} is unknown; allowed are centre-box, centre-box:0.3 (share of width and height),"
            " full-frame, points:3x4 and boxes:3x4 (rows x columns, at most 99 each)"
        )

    def prompts(self, *, width: int, height: int) -> list[dict[str, Any]]:
        """The prompts of a video of this displayed size, as the manifest has them."""
        match self.kind:
            case "full-frame":
                boxes = [(0.0, 0.0, float(width), float(height))]
            case "centre-box":
                x, y = width * (1 - self.fraction) / 2, height * (1 - self.fraction) / 2
                boxes = [(x, y, width - x, height - y)]
            case "boxes":
                boxes = [(x - w, y - h, x + w, y + h) for x, y, w, h in self._cells(width, height)]
            case "points":
                cells = self._cells(width, height)
                return [
                    {"object_id": number, "frame_index": 0, "points": [{"x": x, "y": y, "label": 1}]}
                    for number, (x, y, _, _) in enumerate(cells, 1)
                ]
        return [
            {"object_id": number, "frame_index": 0, "box": dict(zip(SIDES, box, strict=True))}
            for number, box in enumerate(boxes, 1)
        ]

    def _cells(self, width: int, height: int) -> Iterator[tuple[float, float, float, float]]:
        """Centre and half size of each cell, row by row."""
        w, h = width / self.columns / 2, height / self.rows / 2
        for row in range(self.rows):
            for column in range(self.columns):
                yield (2 * column + 1) * w, (2 * row + 1) * h, w, h
