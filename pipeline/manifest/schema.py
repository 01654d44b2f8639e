"""The manifest as everything behind the reader sees it: one Arrow schema, and a video of it as plain dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

POINT = pa.struct([("x", pa.float32()), ("y", pa.float32()), ("label", pa.int8())])
BOX = pa.struct([(side, pa.float32()) for side in ("x_min", "y_min", "x_max", "y_max")])
MASK = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
PROMPT = pa.struct(
    [
        ("object_id", pa.int64()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        ("points", pa.list_(POINT)),
        ("box", BOX),
        ("mask", MASK),
        ("category", pa.string()),
        ("correct", pa.bool_()),
    ]
)
SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_uri", pa.string()),
        ("prompts", pa.list_(PROMPT)),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("video_version", pa.string()),
        ("num_frames", pa.int64()),
        ("priority", pa.int64()),
    ]
)
REQUIRED = ("video_id", "video_uri", "prompts")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the user says of one object in one frame."""

    object_id: int
    frame_index: int | None = None
    """Counted in presentation order within start_s..end_s; exactly one of frame_index and time_s is given."""
    time_s: float | None = None
    """The frame on screen at this time, counted from the file's first frame."""
    points: tuple[tuple[float, float, int], ...] = ()
    """x, y in pixels of the displayed frame, and the label: 1 on the object, 0 off it."""
    box: tuple[float, float, float, float] | None = None
    """x_min, y_min, x_max, y_max in pixels."""
    mask: tuple[tuple[int, int], str] | None = None
    """COCO RLE: (height, width) and the compressed counts; excludes points and box."""
    category: str | None = None
    correct: bool = False
    """Corrects the mask tracked on this frame, with its memory, where other prompts stand alone; points or a box."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """One row of a manifest."""

    row: int
    """Row number in the manifest file, from 0."""
    video_id: str
    video_uri: str
    prompts: tuple[Prompt, ...]
    start_s: float | None = None
    end_s: float | None = None
    video_version: str | None = None
    num_frames: int | None = None
    priority: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's other columns, which are carried through to the videos table."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that breaks a rule: the first rule it breaks."""

    row: int
    """Row number in the manifest file, from 0."""
    video_id: str | None
    column: str
    """With the place inside: `prompts[1].points[0].label`."""
    value: str
    """As repr() shows it, cut when long: safe to log."""
    rule: str
    """What is wrong and what is allowed."""

    def __str__(self) -> str:
        return f"row {self.row}, video_id {clip(self.video_id)}, column {self.column}, value {self.value}: {self.rule}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A validated manifest in the canonical schema, extra columns behind it; rows that break a rule are not in it."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    """For each row of the table its row number in the file."""
    bad_rows: list[BadRow]
    """In file order; empty unless they were to be skipped."""

    def __len__(self) -> int:
        return len(self.rows)

    def video(self, i: int) -> Video:
        """The i-th row of the table, as objects: for the few videos in flight, not for a loop over all."""
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a manifest of {len(self)} rows")
        return to_video(self.table.slice(i, 1).to_pylist()[0], row=int(self.rows[i]))

    def videos(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[Video]:
        """These rows of the table, as objects: of several at once each costs a quarter."""
        records = self.table.take(pa.array(rows, pa.int64())).to_pylist()
        return [to_video(record, row=int(self.rows[i])) for i, record in zip(rows, records, strict=True)]


def to_video(record: Mapping[str, Any], *, row: int) -> Video:
    """A row of the canonical table, as `to_pylist` gives it."""
    return Video(
        row=row,
        **{name: record[name] for name in SCHEMA.names if name != "prompts"},
        prompts=tuple(_to_prompt(prompt) for prompt in record["prompts"]),
        extra={name: value for name, value in record.items() if name not in SCHEMA.names},
    )


def _to_prompt(record: Mapping[str, Any]) -> Prompt:
    box, mask = record["box"], record["mask"]
    return Prompt(
        object_id=record["object_id"],
        frame_index=record["frame_index"],
        time_s=record["time_s"],
        points=tuple((point["x"], point["y"], point["label"]) for point in record["points"] or ()),
        box=box and (box["x_min"], box["y_min"], box["x_max"], box["y_max"]),
        mask=mask and ((mask["size"][0], mask["size"][1]), mask["counts"]),
        category=record["category"],
        correct=bool(record["correct"]),
    )


def clip(value: object, limit: int = 80) -> str:
    """repr() for messages: hostile strings cannot break a log line, long ones cannot fill a screen."""
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{ascii(value[:limit])[:-1]}...' ({len(value)} long)"
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 4 * limit else f"{text[: 4 * limit]}..."
