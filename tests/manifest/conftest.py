"""Manifests of a row or two, written the way users write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(rows, name="manifest.parquet") gives the path of a Parquet file of these dicts."""

    def write(rows: list[dict[str, Any]], name: str = "manifest.parquet") -> Path:
        path = tmp_path / name
        names = dict.fromkeys(name for row in rows for name in row)
        pq.write_table(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}), path)
        return path

    return write
