"""Parts into the Delta tables masks, masklets and videos, many videos at a time and each exactly once.

One process does it, and not Ray tasks: it writes a quarter of a million mask rows a second, which is more than hundreds
of GPUs make, and its commits to a table would have to wait for each other in any case.
"""

from pipeline.publish.files import fragments
from pipeline.publish.history import drop_history
from pipeline.publish.publish import Published, publish
from pipeline.publish.snapshot import open_tables
from pipeline.publish.tables import TABLES, as_dataset, dataset, open_table
from pipeline.publish.turn import fenced_turn
from pipeline.publish.upkeep import Upkeep, delete_videos, expire_parts, optimize, vacuum
from pipeline.publish.wanted import drop_state, wanted_keys

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
