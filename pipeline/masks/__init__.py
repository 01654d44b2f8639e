"""Masks as runs: COCO run-length encoding, components and outlines."""
