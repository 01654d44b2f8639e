"""Whether a URI names a table or a folder."""

TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")


def is_table(uri: str) -> bool:
    """Whether a URI names a table, by its suffix; else it is a folder."""
    return uri.partition("?")[0].lower().endswith(TABLE_SUFFIXES)
