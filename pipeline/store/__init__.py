"""Storage: read, write once, list. The only room that opens a URL."""

from pipeline.store.faults import ChangedError, MissingError, redact
from pipeline.store.filesystems import Access, Storage
from pipeline.store.layout import checkpoint_dir, failure_path, parse_path, part_path, video_dir
from pipeline.store.listing import Entry
from pipeline.store.sources import Version, open_source
from pipeline.store.store import Store
from pipeline.store.versions import source_versions

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
