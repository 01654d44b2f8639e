"""Prompts without clicking: from a default rule for whole folders, and from the boxes of any detector."""

from pipeline.manifest.build.corpus import Shape, Source, find_videos, manifest_rows, probe, videos_by_template
from pipeline.manifest.build.default import PromptRule
from pipeline.manifest.build.detections import Every, detections_to_prompts

__all__ = [
    "Every",
    "PromptRule",
    "Shape",
    "Source",
    "detections_to_prompts",
    "find_videos",
    "manifest_rows",
    "probe",
    "videos_by_template",
]
