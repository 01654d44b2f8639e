"""The manifest: which videos, and what to track in them."""

from pipeline.manifest.digest import prompt_digests
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.schema import PROMPT, SCHEMA, BadRow, Manifest, Prompt, Video

__all__ = ["PROMPT", "SCHEMA", "BadRow", "Manifest", "Prompt", "Video", "prompt_digests", "read_manifest"]
