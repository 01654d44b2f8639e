"""The manifest after reading: one Arrow schema, and a row of it as plain dataclasses."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest.bad_rows import BadRow
from pipeline.manifest.kinds import MODIFIERS, PROMPT_KINDS, Prompt, to_prompt

PROMPT = pa.struct(
    [
        ("object_id", pa.int64()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        *((kind.name, kind.type) for kind in PROMPT_KINDS),
        ("category", pa.string()),
        *((modifier.name, modifier.type) for modifier in MODIFIERS),
    ]
)
SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("video_uri", pa.string()),
        ("prompts", pa.list_(PROMPT)),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("fps", pa.float64()),
        ("video_version", pa.string()),
        ("num_frames", pa.int64()),
        ("priority", pa.int64()),
    ]
)
REQUIRED = ("video_id", "video_uri", "prompts")


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
    fps: float | None = None
    """Rate of an image sequence, 24 where None; a video file has its own."""
    video_version: str | None = None
    num_frames: int | None = None
    priority: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's other columns, which are carried through to the videos table."""


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


def carried(names: Iterable[str]) -> list[str]:
    """The columns that go into the videos table under the manifest's names: all others, and fps, as `manifest_fps`."""
    return [name for name in names if name not in SCHEMA.names or name == "fps"]


def to_video(record: Mapping[str, Any], *, row: int) -> Video:
    """A row of the canonical table, as `to_pylist` gives it."""
    return Video(
        row=row,
        **{name: record[name] for name in SCHEMA.names if name != "prompts"},
        prompts=tuple(to_prompt(prompt) for prompt in record["prompts"]),
        extra={name: record[name] for name in carried(record.keys()) if name != "fps" or record[name] is not None},
    )
