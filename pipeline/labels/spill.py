"""Batches of mask rows grouped by object, in memory or in a local file."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa


class HeldRows:
    """Mask rows in memory, by object."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.sort_by("object_id")
        ids = self._rows.column("object_id").to_numpy()
        first = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1 if len(ids) else 0))
        self.object_ids = {
            int(ids[low]): (int(low), int(high)) for low, high in zip(first, [*first[1:], len(ids)], strict=True)
        }

    def rows(self, object_id: int) -> pa.Table:
        """The rows of one object, in the order they were added."""
        low, high = self.object_ids[object_id]
        return self._rows.slice(low, high - low)

    def write(self, path: Path) -> None:
        """Write an Arrow file with one record batch per object."""
        with pa.ipc.new_file(str(path), self._rows.schema) as writer:
            for object_id in self.object_ids:
                writer.write_table(self.rows(object_id).combine_chunks())


class SpilledRows:
    """Mask rows in a local file, by object. It is not memory-mapped: mapped pages would count as process memory."""

    def __init__(self, files: ExitStack, path: Path) -> None:
        self._reader = pa.ipc.open_file(files.enter_context(pa.OSFile(str(path))))
        self.object_ids = {
            self._reader.get_batch(at).column("object_id")[0].as_py(): at
            for at in range(self._reader.num_record_batches)
        }

    def rows(self, object_id: int) -> pa.Table:
        """The rows of one object, in the order they were added."""
        return pa.Table.from_batches([self._reader.get_batch(self.object_ids[object_id])])


def load(batch: pa.Table | Path) -> pa.Table:
    """The rows of a batch, read from its file if it was spilled."""
    if isinstance(batch, pa.Table):
        return batch
    with pa.OSFile(str(batch)) as file:
        return pa.ipc.open_file(file).read_all()
