"""Manifests without clicks: default prompts for the videos of a folder, and prompts from the boxes of any detector."""

from pipeline.manifest.build.corpus import (
    VideoListing,
    derived_id,
    manifest_rows,
    probe,
    videos_by_template,
)
from pipeline.manifest.build.default import PromptRule
from pipeline.manifest.build.detections import Every, detections_to_prompts
from pipeline.manifest.build.found import FoundVideo, Shape
from pipeline.manifest.build.lerobot import LeRobotListing, is_lerobot
from pipeline.manifest.build.tracks import Refine

__all__ = [
    "Every",
    "FoundVideo",
    "LeRobotListing",
    "PromptRule",
    "Refine",
    "Shape",
    "VideoListing",
    "derived_id",
    "detections_to_prompts",
    "is_lerobot",
    "manifest_rows",
    "probe",
    "videos_by_template",
]
