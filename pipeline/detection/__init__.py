"""Detections: boxes or masks of classes on some frames, and their association with tracked objects."""

from pipeline.detection.table import SCHEMA, VideoDetections, digest_of, read_detections, read_video, to_detections

__all__ = [
    "SCHEMA",
    "VideoDetections",
    "digest_of",
    "read_detections",
    "read_video",
    "to_detections",
]
