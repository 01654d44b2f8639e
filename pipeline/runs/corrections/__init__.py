"""Corrections of prompts, stored in the output and applied by every later run."""

from pipeline.runs.corrections.fix import Fix, read_fixes
from pipeline.runs.corrections.fixes import Applied, apply_fixes
from pipeline.runs.corrections.overlay import Overlay, current_prompts, overlay_manifest, overlay_prompts
from pipeline.runs.corrections.record import Correction, Corrections, current_user, read_corrections, remove_corrections

__all__ = [
    "Applied",
    "Correction",
    "Corrections",
    "Fix",
    "Overlay",
    "apply_fixes",
    "current_prompts",
    "current_user",
    "overlay_manifest",
    "overlay_prompts",
    "read_corrections",
    "read_fixes",
    "remove_corrections",
]
