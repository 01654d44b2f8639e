"""Rows of earlier labels of a video, up to the frame from which it is tracked again."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.labels import MASKS
from pipeline.labels.rows import KEY_COLUMNS, MEASURED_LATER
from pipeline.storage import Store, part_path

READ_BYTES = 2**20
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """Which rows of earlier labels are part of the labels of a video."""

    label_key: str
    part_sha256: str
    before: int
    """Rows of frames before this one."""


def fetch_part(store: Store, video_id: str, label_key: str, sha256: str) -> BinaryIO:
    """A copy of a part in an unnamed local file.

    Raises:
        MissingError: The part is not there.
        ValueError: Its bytes are not those of the digest.
    """
    digest = hashlib.sha256()
    with ExitStack() as files, store.open(part_path(video_id, label_key)) as file:
        copy = files.enter_context(tempfile.TemporaryFile(prefix="sam2-corpus-earlier-"))
        while data := file.read(READ_BYTES):
            digest.update(data)
            copy.write(data)
        if digest.hexdigest() != sha256:
            raise ValueError("the part of the earlier labels is not the one that the states belong to")
        files.pop_all()  # open until its rows are read
    copy.seek(0)
    return copy


def read_rows(part: BinaryIO, *, before: int) -> Iterator[pa.Table]:
    """The rows of a part on frames before `before`, without the columns that are made when all rows are known.

    Closes the part at the end.

    Raises:
        ValueError: Another release wrote the part, with other columns.
    """
    made_later = {*KEY_COLUMNS, *MEASURED_LATER}
    columns = [name for name in MASKS.names if name not in made_later]
    with part, pq.ParquetFile(part) as parquet:
        if not parquet.schema_arrow.equals(MASKS):
            raise ValueError("the part of the earlier labels has other columns than those of this release")
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=columns):
            rows = pa.Table.from_batches([batch]).filter(pc.field("frame_index") < before)
            if rows.num_rows:
                yield rows
