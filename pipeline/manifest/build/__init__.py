"""Manifests without clicks: default prompts for the videos of a folder, and prompts from the boxes of any detector."""

from pipeline.manifest.build.corpus import (
    FoundVideo,
    Shape,
    VideoListing,
    derived_id,
    manifest_rows,
    probe,
    videos_by_template,
)
from pipeline.manifest.build.default import PromptRule
from pipeline.manifest.build.detections import Every, Refine, detections_to_prompts

__all__ = [
    "Every",
    "FoundVideo",
    "PromptRule",
    "Refine",
    "Shape",
    "VideoListing",
    "derived_id",
    "detections_to_prompts",
    "manifest_rows",
    "probe",
    "videos_by_template",
]
