"""The manifest: videos, and prompts of the objects to track."""

from pipeline.manifest.bad_rows import BadRow
from pipeline.manifest.digest import digest_records, prompt_digests
from pipeline.manifest.kinds import PROMPT_KINDS, Prompt, kinds_of, marks_of
from pipeline.manifest.modifiers import MODIFIERS
from pipeline.manifest.prompt_field import Dot, Mark, PromptKind, Rectangle, Region
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.schema import PROMPT, SCHEMA, Manifest, Video
from pipeline.manifest.tables import read_table
from pipeline.manifest.text import describe, prompts_from_json, prompts_to_json
from pipeline.manifest.writer import write_manifest, write_rows

__all__ = [
    "MODIFIERS",
    "PROMPT",
    "PROMPT_KINDS",
    "SCHEMA",
    "BadRow",
    "Dot",
    "Manifest",
    "Mark",
    "Prompt",
    "PromptKind",
    "Rectangle",
    "Region",
    "Video",
    "describe",
    "digest_records",
    "kinds_of",
    "marks_of",
    "prompt_digests",
    "prompts_from_json",
    "prompts_to_json",
    "read_manifest",
    "read_table",
    "write_manifest",
    "write_rows",
]
