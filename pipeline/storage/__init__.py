"""Reading, create-only writing and listing below a URI. The only package that opens URLs.

`Store` serves everything below one URI, `open_source` opens one source; `backends` has a module per kind of storage.
"""

from pipeline.storage.access import Access, Storage
from pipeline.storage.faults import ChangedError, MissingError, redact
from pipeline.storage.listing import Entry, Version
from pipeline.storage.paths import checkpoint_dir, failure_path, parse_path, part_path, video_dir
from pipeline.storage.sources import open_source, source_versions
from pipeline.storage.store import Store

__all__ = [
    "Access",
    "ChangedError",
    "Entry",
    "MissingError",
    "Storage",
    "Store",
    "Version",
    "checkpoint_dir",
    "failure_path",
    "open_source",
    "parse_path",
    "part_path",
    "redact",
    "source_versions",
    "video_dir",
]
