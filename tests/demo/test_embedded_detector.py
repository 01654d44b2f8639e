"""The embedded detector on clips of seeds, outlines and textures that it was not trained on."""

import numpy as np

from pipeline.demo.clicks import tight_box
from pipeline.demo.renderer import EVAL_SEEDS, render
from pipeline.detection.detectors.loading import load_detector
from pipeline.detection.matching import best_matches, overlaps
from pipeline.detection.settings import DetectionParameters

CLIPS, TIMES = 16, [5.0, 25.0, 40.0]
VISIBLE = 0.004
"""Share of the frame that an object shows to count."""
RECALL, FALSE_BOXES = 0.93, 0.8
"""Least share of the objects that a box with an IoU above 0.5 finds, and most false boxes in a frame."""


def test_it_finds_shapes_of_clips_that_it_was_not_trained_on() -> None:
    detector = load_detector("embedded", DetectionParameters(classes=("shape",), threshold=0.4), device="cpu")
    objects = found = boxes = 0
    for seed in range(EVAL_SEEDS, EVAL_SEEDS + CLIPS):
        clip = render(seed, frames=48, height=144, width=192, split="eval", times=TIMES)
        for frame, ids in zip(clip.frames, clip.ids, strict=True):
            (detected,) = detector.detect([detector.prepare(frame)])
            masks = [ids == i for i in range(1, len(clip.objects) + 1)]
            true = np.array([tight_box(mask) for mask in masks if mask.mean() >= VISIBLE], float).reshape(-1, 4)
            iou, _ = overlaps(true, detected.boxes.astype(float))
            found += len(best_matches(iou, least=0.5))
            objects, boxes = objects + len(true), boxes + len(detected)
    frames = CLIPS * len(TIMES)
    print(f"{found / objects:.2f} of {objects} objects found, {(boxes - found) / frames:.2f} false boxes in a frame")
    assert found / objects > RECALL
    assert (boxes - found) / frames < FALSE_BOXES
