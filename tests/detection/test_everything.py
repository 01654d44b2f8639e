from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipeline.detection.detectors.everything import Everything
from pipeline.detection.detectors.loading import load_detector
from pipeline.detection.settings import DetectionParameters
from pipeline.masks.rle import decode, encode
from tests.tracking.models import random_model


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    """A tracker of random weights whose masks are neither empty nor unstable."""
    folder = tmp_path_factory.mktemp("tracker")
    tracker = random_model()
    tracker.model.save_pretrained(folder)
    tracker.processor.save_pretrained(folder)
    loaded: Any = load_detector(str(folder), DetectionParameters(everything=True, threshold=0.0), device="cpu")
    with torch.no_grad():  # random weights predict an IoU of about one half and small logits
        loaded.model.mask_decoder.output_hypernetworks_mlps[1].proj_out.weight.mul_(40)
        loaded.model.mask_decoder.output_hypernetworks_mlps[2].proj_out.weight.mul_(40)
    return loaded


def pipeline_of(detector: Everything) -> Any:
    processor = detector.video_processor
    image_processor = transformers.Sam2ImageProcessor(
        size=dict(processor.size), image_mean=processor.image_mean, image_std=processor.image_std
    )
    return transformers.pipeline("mask-generation", model=detector.model, image_processor=image_processor)


def test_masks_of_a_square_frame_are_those_of_transformers(detector: Everything) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    (found,) = detector.detect([detector.prepare(frame)])
    from PIL import Image

    own = pipeline_of(detector)(
        Image.fromarray(frame), points_per_crop=32, pred_iou_thresh=1e-9, stability_score_thresh=0.95,
        crops_nms_thresh=0.7,
    )  # fmt: skip
    assert len(found) == len(own["masks"]) > 0
    assert found.masks is not None
    theirs = {encode(mask.numpy()[None])[0] for mask in own["masks"]}
    assert set(found.masks) == theirs


def test_the_grid_covers_frames_that_are_not_square(detector: Everything) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (40, 160, 3), dtype=np.uint8)
    (found,) = detector.detect([detector.prepare(frame)])
    assert found.masks is not None
    for counts, box in zip(found.masks, found.boxes, strict=True):
        rows, columns = np.nonzero(decode(counts, (40, 160)))
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    points = torch.cat(list(detector._grid(128)), dim=1)
    assert points.shape == (1, 1024, 1, 2)
    assert (points.min().item(), points.max().item()) == (2.0, 126.0)


def test_a_detector_is_refused_where_a_tracker_is_needed(tmp_path: Path) -> None:
    from pipeline.errors import ModelError
    from tests.detection import tiny_models

    folder = tiny_models.save("rt_detr", tmp_path)
    with pytest.raises(ModelError, match="model_type 'rt_detr'"):
        load_detector(str(folder), DetectionParameters(everything=True), device="cpu")


def test_frames_without_a_good_mask_have_no_detections(detector: Everything) -> None:
    frame = np.random.default_rng(2).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    strict = replace(detector, threshold=2.0, points_per_side=8)
    (found,) = strict.detect([strict.prepare(frame)])
    assert len(found) == 0
