"""Parts into the Delta tables masks, masklets and videos, many videos at a time and each exactly once."""

from pipeline.publish.publish import Published, publish
from pipeline.publish.tables import TABLES, dataset, open_table
from pipeline.publish.wanted import wanted_keys

__all__ = [
    "TABLES",
    "Published",
    "dataset",
    "open_table",
    "publish",
    "wanted_keys",
]
