"""The manifest: which videos, and what to track in them."""

from pipeline.manifest.digest import prompt_digests
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.schema import PROMPT, SCHEMA, BadRow, Manifest, Prompt, Video
from pipeline.manifest.tables import read_table
from pipeline.manifest.text import describe
from pipeline.manifest.writer import write_manifest, write_rows

__all__ = [
    "PROMPT",
    "SCHEMA",
    "BadRow",
    "Manifest",
    "Prompt",
    "Video",
    "describe",
    "prompt_digests",
    "read_manifest",
    "read_table",
    "write_manifest",
    "write_rows",
]
