"""Where a table is: named itself, or as the folder that holds it."""

from pipeline.storage.paths import DETECTIONS_TABLE

TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")


def is_table(uri: str) -> bool:
    """Whether a URI names a table, by its suffix; else it is a folder."""
    return uri.partition("?")[0].lower().endswith(TABLE_SUFFIXES)


def table_at(uri: str) -> str:
    """The table of detections at a URI: the table itself, or that of an output of jobs.detect."""
    return uri if is_table(uri) else f"{uri.rstrip('/')}/{DETECTIONS_TABLE}"
