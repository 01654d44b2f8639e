"""Detections as detectors and trackers write them: tables, COCO JSON, Ultralytics' results, YOLO and MOT text files."""
