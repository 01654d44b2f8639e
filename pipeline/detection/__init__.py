"""Detections: boxes or masks of classes on some frames, and their association with tracked objects."""

from pipeline.detection.table import (
    GIVEN,
    SCHEMA,
    VideoDetections,
    digest_of,
    read_video,
    to_detections,
)

__all__ = [
    "GIVEN",
    "SCHEMA",
    "VideoDetections",
    "digest_of",
    "read_video",
    "to_detections",
]
