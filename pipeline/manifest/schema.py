"""The manifest after reading: one Arrow schema, and a row of it as plain dataclasses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest.bad_rows import BadRow
from pipeline.manifest.kinds import PROMPT_KINDS, Prompt, to_prompt
from pipeline.manifest.modifiers import MODIFIERS

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
        ("detections", pa.string()),
        ("label_fps", pa.float64()),
        ("label_every", pa.int64()),
    ]
)
_WITHOUT_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
NO_COLUMNS = pa.table({})
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
    detections: str | None = None
    """URI of a table that holds the video's detections: objects begin from them, beside those of the prompts."""
    label_fps: float | None = None
    """Frames a second to label instead of all; at most one of label_fps and label_every."""
    label_every: int | None = None
    """Label every so many frames; 1 for all, whatever the run's label rate is."""
    extra: pa.Table = field(default_factory=lambda: NO_COLUMNS)
    """One row of the manifest's other columns in their Arrow types, which are carried through to the videos table."""

    @property
    def carried(self) -> pa.Table:
        """`extra`, and fps where it is given: the videos table has it as `manifest_fps`."""
        if self.fps is None:
            return self.extra
        return pa.table({**dict(zip(self.extra.column_names, self.extra.columns, strict=True)), "fps": [self.fps]})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A validated manifest in the canonical schema, extra columns behind it; rows that break a rule are not in it."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    """For each row of the table its row number in the file."""
    bad_rows: list[BadRow]
    """In file order; empty unless they were to be skipped."""
    uris: pa.Array | None = None
    """For each row of the table the URI of its manifest (string), where several manifests are joined."""

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, i: int) -> str:
        """Where the i-th row of the table is: its row number, and the manifest where there are several."""
        return f"row {self.rows[i]}" + (f" of {self.uris[i].as_py()}" if self.uris is not None else "")

    def bad_row(self, i: int, *, column: str, value: str, rule: str) -> BadRow:
        """The i-th row of the table as one that breaks a rule."""
        uri = self.uris[i].as_py() if self.uris is not None else None
        return BadRow(int(self.rows[i]), self.table["video_id"][i].as_py(), column, value, rule, uri)

    def select(self, keep: npt.NDArray[np.bool_], *, bad: Sequence[BadRow] = ()) -> "Manifest":
        """The rows where `keep`, bool (rows,), is true; `bad` are the others, as far as they break rules."""
        return Manifest(
            table=self.table.filter(pa.array(keep)),
            rows=self.rows[keep],
            bad_rows=[*self.bad_rows, *bad],
            uris=None if self.uris is None else self.uris.filter(pa.array(keep)),
        )

    def without(self, bad: Mapping[int, BadRow]) -> "Manifest":
        """The manifest without these rows of the table, which break rules."""
        keep = np.ones(len(self), np.bool_)
        keep[list(bad)] = False
        return self.select(keep, bad=list(bad.values()))

    def video(self, i: int) -> Video:
        """The i-th row of the table, as objects: for the few videos in flight, not for a loop over all."""
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of a manifest of {len(self)} rows")
        return self.videos([i])[0]

    def videos(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[Video]:
        """These rows of the table, as objects: of several at once each costs a quarter."""
        records = self.table.select(SCHEMA.names).take(pa.array(rows, pa.int64())).to_pylist()
        others = self.table.drop_columns(SCHEMA.names)
        return [
            to_video(record, row=int(self.rows[i]), extra=_compact(others.slice(i, 1)))
            for i, record in zip(rows, records, strict=True)
        ]


def _compact(row: pa.Table) -> pa.Table:
    """A row that holds its own values only: not the columns that it is sliced from, nor their dictionaries."""
    for at, kind in enumerate(row.schema.types):
        plain = kind.value_type if pa.types.is_dictionary(kind) else _WITHOUT_VIEWS.get(kind, kind)
        if plain != kind:
            row = row.set_column(at, row.column_names[at], row.column(at).cast(plain))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_table(row)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def to_video(record: Mapping[str, Any], *, row: int, extra: pa.Table = NO_COLUMNS) -> Video:
    """A row of the canonical table, as `to_pylist` gives it, and its other columns."""
    return Video(
        row=row,
        **{name: record[name] for name in SCHEMA.names if name != "prompts"},
        prompts=tuple(to_prompt(prompt) for prompt in record["prompts"]),
        extra=extra,
    )
