"""Publication of parts into the Delta tables masks, masklets and videos, each video exactly once; their maintenance.

One process publishes, without Ray: it writes a quarter of a million mask rows per second, more than hundreds of GPUs
produce, and commits to one table must be sequential.
"""

from pipeline.tables.delta import TABLES, as_dataset, dataset, open_table
from pipeline.tables.epoch import publisher_epoch
from pipeline.tables.expiry import expire_parts
from pipeline.tables.files import fragments
from pipeline.tables.history import drop_history
from pipeline.tables.maintenance import MaintenanceResult, delete_videos, optimize
from pipeline.tables.publication import Published, publish, publish_without_staged
from pipeline.tables.snapshot import open_tables
from pipeline.tables.vacuum import vacuum
from pipeline.tables.wanted import drop_state, wanted_keys

__all__ = [
    "TABLES",
    "MaintenanceResult",
    "Published",
    "as_dataset",
    "dataset",
    "delete_videos",
    "drop_history",
    "drop_state",
    "expire_parts",
    "fragments",
    "open_table",
    "open_tables",
    "optimize",
    "publish",
    "publish_without_staged",
    "publisher_epoch",
    "vacuum",
    "wanted_keys",
]
