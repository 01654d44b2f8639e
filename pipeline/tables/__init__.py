"""Parts into the Delta tables masks, masklets and videos, many videos at a time and each exactly once.

One process does it, and not Ray tasks: it writes a quarter of a million mask rows a second, which is more than hundreds
of GPUs make, and its commits to a table would have to wait for each other in any case.
"""

from pipeline.tables.delta import TABLES, as_dataset, dataset, open_table
from pipeline.tables.files import fragments
from pipeline.tables.history import drop_history
from pipeline.tables.publication import Published, publish
from pipeline.tables.snapshot import open_tables
from pipeline.tables.turn import fenced_turn
from pipeline.tables.upkeep import Upkeep, delete_videos, expire_parts, optimize
from pipeline.tables.vacuum import vacuum
from pipeline.tables.wanted import drop_state, wanted_keys

__all__ = [
    "TABLES",
    "Published",
    "Upkeep",
    "as_dataset",
    "dataset",
    "delete_videos",
    "drop_history",
    "drop_state",
    "expire_parts",
    "fenced_turn",
    "fragments",
    "open_table",
    "open_tables",
    "optimize",
    "publish",
    "vacuum",
    "wanted_keys",
]
