"""Mask rows in tracking order, sorted into one Parquet part."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels.masklets import masklet_row
from pipeline.labels.measures.drift import paired
from pipeline.labels.part import footer, parquet_settings
from pipeline.labels.rows import KEY_COLUMNS, Columns, measure_masklet
from pipeline.labels.schemas import MASKLETS, MASKS, video_table
from pipeline.labels.spill import HeldRows, SpilledRows, load

ROW_GROUP_ROWS = 16_384
MEMORY_BUDGET_BYTES = 64 * 2**20
_ROW_OVERHEAD_BYTES = 400  # of a mask row in Python lists, besides its counts


class PartBuilder:
    """Collects a video's mask rows in tracking order and writes them as one Parquet file, sorted by object and frame.

    Rows beyond the memory budget are spilled to local files, so peak memory depends on the longest masklet and not on
    the video.
    """

    def __init__(
        self,
        video_id: str,
        *,
        label_key: str,
        height: int,
        width: int,
        memory_budget_bytes: int = MEMORY_BUDGET_BYTES,
        spill_dir: str | Path | None = None,
    ) -> None:
        self.video_id = video_id
        self.label_key = label_key
        self.rows = 0
        self._key = dict(zip(KEY_COLUMNS, (video_id, label_key, height, width), strict=True))
        self._size = (height, width)
        self._inner = pa.schema([field for field in MASKS if field.name not in self._key])
        self._budget = memory_budget_bytes
        self._spill_root = spill_dir
        self._folder: Path | None = None
        self._columns: dict[str, list[Any]] = {name: [] for name in self._inner.names}
        self._bytes = 0
        self._batches: list[pa.Table | Path] = []
        self._drained = 0

    def __enter__(self) -> "PartBuilder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def spilled(self) -> bool:
        return self._folder is not None

    def add(self, columns: Columns) -> None:
        """Add the rows of one frame, as `rows.measure_frame` returns them. NaN becomes null.

        Raises:
            ValueError: A column is not in MASKS or does not have one value per object.
        """
        given = {name: _plain(values) for name, values in columns.items()}
        count = len(given["object_id"])
        for name, collected in self._columns.items():
            values = given.pop(name, None)
            if values is not None and len(values) != count:
                raise ValueError(f"column {name} has {len(values)} values for {count} objects")
            collected.extend([None] * count if values is None else values)
        if given:
            raise ValueError(f"unknown mask columns {sorted(given)}; known are {self._inner.names}")
        self._bytes += sum(map(len, self._columns["counts"][-count:])) + count * _ROW_OVERHEAD_BYTES if count else 0
        self.rows += count
        if self._bytes > self._budget:
            self._flush()
            self._spill()

    def add_rows(self, rows: pa.Table) -> None:
        """Add rows that `drain` returned, to continue from a checkpoint; `drain` does not return them again."""
        assert self._drained == len(self._batches), "restore before adding rows"
        held = set(rows.schema.names)  # a checkpoint of an older version may lack columns
        nulls = {field.name: pa.nulls(rows.num_rows, field.type) for field in self._inner if field.name not in held}
        columns = [
            nulls[n] if n in nulls else rows.column(n).cast(self._inner.field(n).type) for n in self._inner.names
        ]
        self._batches.append(pa.Table.from_arrays(columns, schema=self._inner))
        self._drained = len(self._batches)
        self.rows += rows.num_rows
        if sum(batch.nbytes for batch in self._batches if isinstance(batch, pa.Table)) > self._budget:
            self._spill()

    def drain(self) -> pa.Table:
        """The rows added since the last call, for a checkpoint; they stay in the builder."""
        self._flush()
        new = [load(batch) for batch in self._batches[self._drained :]]
        self._drained = len(self._batches)
        return pa.concat_tables(new) if new else self._inner.empty_table()

    def finish(
        self,
        video: Mapping[str, Any],
        *,
        masklets: Mapping[int, Mapping[str, Any]] | None = None,
        second_pass: "PartBuilder | None" = None,
        labelled_frames: Sequence[int] | None = None,
    ) -> bytes | Path:
        """The part: bytes, or a local file (until `close`) if rows were spilled.

        Args:
            video: columns of VIDEOS and, under "extra", the manifest's own columns.
            masklets: more columns of MASKLETS by object id, such as category.
            second_pass: the rows of a second pass, see labels.measures.drift.
            labelled_frames: the labelled frames, ascending; None for all frames of the video.

        Raises:
            ValueError: An object has two rows for one frame.
        """
        if not self.spilled:
            sink = pa.BufferOutputStream()
            self._write(sink, video, masklets or {}, second_pass, labelled_frames)
            return bytes(sink.getvalue())
        assert self._folder is not None
        path = self._folder / "part.parquet"
        with pa.OSFile(str(path), "wb") as file:
            self._write(file, video, masklets or {}, second_pass, labelled_frames)
        return path

    def close(self) -> None:
        """Drop all rows and remove the local files."""
        self._batches.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        if self._columns["object_id"]:
            arrays = [pa.array(self._columns[field.name], field.type, from_pandas=True) for field in self._inner]
            self._batches.append(pa.Table.from_arrays(arrays, schema=self._inner))
            self._columns = {name: [] for name in self._inner.names}
            self._bytes = 0

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sam2-corpus-rows-", dir=self._spill_root))
        for at, batch in enumerate(self._batches):
            if isinstance(batch, pa.Table):
                path = self._folder / f"rows-{at}.arrow"
                HeldRows(batch).write(path)
                self._batches[at] = path

    def _write(
        self,
        sink: Any,
        video: Mapping[str, Any],
        masklets: Mapping[int, Mapping[str, Any]],
        second_pass: "PartBuilder | None",
        labelled_frames: Sequence[int] | None,
    ) -> None:
        masklet_rows: list[dict[str, Any]] = []
        height, width = self._size
        ids = {"video_id": self.video_id, "label_key": self.label_key}
        with pq.ParquetWriter(sink, MASKS, **parquet_settings()) as writer:
            waiting: list[pa.Table] = []
            for object_id, first, second in paired(self.by_object(), second_pass.by_object() if second_pass else ()):
                rows = measure_masklet(first, second, height=height, width=width, labelled_frames=labelled_frames)
                given = masklets.get(object_id, {})
                masklet_rows.append({**masklet_row(object_id, rows, pixels=height * width), **given, **ids})
                waiting.append(rows)
                if sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
                    self._write_groups(writer, waiting)
                    waiting = []
            self._write_groups(writer, waiting)
            doubt = max((row["doubt"] for row in masklet_rows), default=None)
            known = {**ids, "mask_rows": self.rows, "objects": len(masklet_rows), "doubt": doubt}
            masklet_table = pa.Table.from_pylist(masklet_rows, schema=MASKLETS)
            writer.add_key_value_metadata(footer(masklet_table, video_table({**known, **video, **ids})))

    def _write_groups(self, writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
        if not tables:
            return
        rows = pa.concat_tables(tables)
        count = rows.num_rows
        arrays = [
            pa.repeat(pa.scalar(self._key[field.name], field.type), count)
            if field.name in self._key
            else rows.column(field.name)
            for field in MASKS
        ]
        writer.write_table(pa.Table.from_arrays(arrays, schema=MASKS), row_group_size=ROW_GROUP_ROWS)

    def by_object(self) -> Iterator[tuple[int, pa.Table]]:
        """Rows added so far of each object, in frame order, by ascending object id; columns of KEY_COLUMNS left out."""
        self._flush()
        with ExitStack() as files:
            runs = [
                SpilledRows(files, batch) if isinstance(batch, Path) else HeldRows(batch) for batch in self._batches
            ]
            for object_id in sorted(set().union(*(run.object_ids for run in runs))):
                pieces = [run.rows(object_id) for run in runs if object_id in run.object_ids]
                rows = pa.concat_tables(pieces).sort_by("frame_index").combine_chunks()
                frames = rows.column("frame_index").to_numpy()
                if (repeated := frames[1:][np.diff(frames) == 0]).size:
                    raise ValueError(f"object {object_id} has two rows for frame {repeated[0]} of {self.video_id!r}")
                yield object_id, rows


def _plain(values: Iterable[Any]) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)
