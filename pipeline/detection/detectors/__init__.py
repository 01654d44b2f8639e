"""Detectors of transformers' Auto classes behind one interface: frames in, boxes and masks of classes out."""
