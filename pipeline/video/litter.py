"""Metadata files that operating systems leave in folders and zips: neither pictures nor videos."""

from pathlib import PurePosixPath

_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"})
_FOLDERS = frozenset(
    {"__macosx", ".trashes", ".spotlight-v100", ".fseventsd", "$recycle.bin", "system volume information", "@eadir"}
)


def is_litter(path: str) -> bool:
    """Whether macOS (._NAME, .DS_Store, __MACOSX), Windows (Thumbs.db, desktop.ini) or a NAS made this file."""
    *folders, name = (part.lower() for part in PurePosixPath(path).parts)
    return name.startswith("._") or name in _NAMES or not _FOLDERS.isdisjoint(folders)
