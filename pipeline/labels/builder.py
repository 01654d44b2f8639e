"""From mask rows, in the order they are made, to one sorted Parquet part."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.labels.measures.drift import with_agreement
from pipeline.labels.measures.motion import add_motion
from pipeline.labels.part import footer, parquet_settings
from pipeline.labels.schemas import MASKLETS, MASKS, aggregate, video_table

ROW_GROUP_ROWS = 16_384
MEMORY_BUDGET_BYTES = 64 * 2**20
_ROW_OVERHEAD_BYTES = 400  # of a mask row in Python lists, besides its counts


class PartBuilder:
    """Collects a video's mask rows in the order they are made and turns them into one sorted Parquet file.

    Rows beyond the memory budget wait in local files, so that memory depends on the longest masklet, not on the video.
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
        schema: pa.Schema = MASKS,
    ) -> None:
        self.video_id = video_id
        self.label_key = label_key
        self.rows = 0
        self._constant: dict[str, Any] = {
            "video_id": video_id,
            "label_key": label_key,
            "height": height,
            "width": width,
        }
        self._schema = schema
        self._inner = pa.schema([field for field in schema if field.name not in self._constant])
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

    def add(self, frame_index: int, time_s: float, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """The rows of one frame: `columns` holds the other columns of MASKS, one value per object, absent ones null.

        x_min, y_min, x_max and y_max may come as `boxes`, one 4-tuple or None per object. NaN scores become null;
        is_present follows from the area where it is absent.
        """
        given = {name: _plain(values) for name, values in columns.items()}
        count = len(given["object_id"])
        if (boxes := given.pop("boxes", None)) is not None:
            for at, name in enumerate(("x_min", "y_min", "x_max", "y_max")):
                given[name] = [None if box is None else int(box[at]) for box in boxes]
        given |= {"frame_index": [frame_index] * count, "time_s": [time_s] * count}
        given.setdefault("is_present", [area > 0 for area in given["area"]])
        for name, held in self._columns.items():
            values = given.pop(name, None)
            if values is not None and len(values) != count:
                raise ValueError(f"column {name} has {len(values)} values for {count} objects")
            held.extend([None] * count if values is None else values)
        if given:
            raise ValueError(f"unknown mask columns {sorted(given)}; known are {self._inner.names}")
        self._bytes += sum(map(len, self._columns["counts"][-count:])) + count * _ROW_OVERHEAD_BYTES if count else 0
        self.rows += count
        if self._bytes > self._budget:
            self._flush()
            self._spill()

    def add_rows(self, rows: pa.Table) -> None:
        """Rows as `drain` gave them, to go on where a checkpoint ended; they do not count as new."""
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
        """The rows added since the last call, for a checkpoint; the builder keeps them too."""
        self._flush()
        new = [_loaded(batch) for batch in self._batches[self._drained :]]
        self._drained = len(self._batches)
        return pa.concat_tables(new) if new else self._inner.empty_table()

    def finish(
        self,
        video: Mapping[str, Any],
        *,
        masklets: Mapping[int, Mapping[str, Any]] | None = None,
        again: "PartBuilder | None" = None,
    ) -> bytes | Path:
        """The part: bytes, or a local file (until `close`) where rows were spilled.

        `video` holds columns of VIDEOS and, under "extra", the manifest's own columns; `masklets` adds columns such as
        category to an object's masklet row; `again` has the rows of a second pass, see labels.measures.drift.
        """
        if not self.spilled:
            sink = pa.BufferOutputStream()
            self._write(sink, video, masklets or {}, again)
            return bytes(sink.getvalue())
        assert self._folder is not None
        path = self._folder / "part.parquet"
        with pa.OSFile(str(path), "wb") as file:
            self._write(file, video, masklets or {}, again)
        return path

    def close(self) -> None:
        """Forget all rows and remove the local files."""
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
                _HeldRows(batch).write(path)
                self._batches[at] = path

    def _write(
        self,
        sink: Any,
        video: Mapping[str, Any],
        masklets: Mapping[int, Mapping[str, Any]],
        again: "PartBuilder | None",
    ) -> None:
        aggregated: list[dict[str, Any]] = []
        height, width = self._constant["height"], self._constant["width"]
        made = self.by_object()
        if again is not None:
            made = with_agreement(made, again.by_object(), size=(height, width))
        with pq.ParquetWriter(sink, self._schema, **parquet_settings()) as writer:
            waiting: list[pa.Table] = []
            for object_id, rows in made:
                aggregated.append(aggregate(object_id, rows, pixels=height * width) | dict(masklets.get(object_id, {})))
                waiting.append(rows)
                if sum(table.num_rows for table in waiting) >= ROW_GROUP_ROWS:
                    self._write_groups(writer, waiting)
                    waiting = []
            self._write_groups(writer, waiting)
            ids = {"video_id": self.video_id, "label_key": self.label_key}
            masklet_table = pa.Table.from_pylist([row | ids for row in aggregated], schema=MASKLETS)
            doubt = max((row["doubt"] for row in aggregated), default=None)
            known = ids | {"mask_rows": self.rows, "objects": len(aggregated), "doubt": doubt}
            writer.add_key_value_metadata(footer(masklet_table, video_table(known | dict(video) | ids)))

    def _write_groups(self, writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
        if not tables:
            return
        rows = pa.concat_tables(tables)
        count = rows.num_rows
        arrays = [
            pa.repeat(pa.scalar(self._constant[field.name], field.type), count)
            if field.name in self._constant
            else rows.column(field.name)
            for field in self._schema
        ]
        writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=ROW_GROUP_ROWS)

    def by_object(self) -> Iterator[tuple[int, pa.Table]]:
        """Each object's rows in frame order, by ascending object id, as far as they have come."""
        self._flush()
        with ExitStack() as files:
            runs = [
                _SpilledRows(files, batch) if isinstance(batch, Path) else _HeldRows(batch) for batch in self._batches
            ]
            for object_id in sorted(set().union(*(run.object_ids for run in runs))):
                pieces = [run.rows(object_id) for run in runs if object_id in run.object_ids]
                rows = pa.concat_tables(pieces).sort_by("frame_index").combine_chunks()
                frames = rows.column("frame_index").to_numpy()
                if (repeated := frames[1:][np.diff(frames) == 0]).size:
                    raise ValueError(f"object {object_id} has two rows for frame {repeated[0]} of {self.video_id!r}")
                yield object_id, add_motion(rows, height=self._constant["height"], width=self._constant["width"])


class _HeldRows:
    """Some rows in memory, by object."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.sort_by("object_id")
        ids = self._rows.column("object_id").to_numpy()
        first = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1 if len(ids) else 0))
        self.object_ids = {
            int(ids[low]): (int(low), int(high)) for low, high in zip(first, [*first[1:], len(ids)], strict=True)
        }

    def rows(self, object_id: int) -> pa.Table:
        low, high = self.object_ids[object_id]
        return self._rows.slice(low, high - low)

    def write(self, path: Path) -> None:
        """One record batch per object."""
        with pa.ipc.new_file(str(path), self._rows.schema) as writer:
            for object_id in self.object_ids:
                writer.write_table(self.rows(object_id).combine_chunks())


class _SpilledRows:
    """Rows in a local file, read by object: not mapped into memory, where they would count as this process's."""

    def __init__(self, files: ExitStack, path: Path) -> None:
        self._reader = pa.ipc.open_file(files.enter_context(pa.OSFile(str(path))))
        self.object_ids = {
            self._reader.get_batch(at).column("object_id")[0].as_py(): at
            for at in range(self._reader.num_record_batches)
        }

    def rows(self, object_id: int) -> pa.Table:
        return pa.Table.from_batches([self._reader.get_batch(self.object_ids[object_id])])


def _loaded(batch: pa.Table | Path) -> pa.Table:
    if isinstance(batch, pa.Table):
        return batch
    with pa.OSFile(str(batch)) as file:
        return pa.ipc.open_file(file).read_all()


def _plain(values: Iterable[Any]) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)
