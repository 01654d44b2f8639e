"""The detector's recipe: boxes of what is visible, a loss that falls, and a checkpoint that continues."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from tests.demo.training import detector
from tests.demo.training.detector import CATEGORIES, Training, make_batch


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(detector, "BATCH", 4)
    monkeypatch.setattr(detector, "MOMENTS", 2)
    monkeypatch.setattr(detector, "FIRST_SIZE", 64)


def test_batches_have_a_box_for_each_visible_thing():
    pixels, targets = make_batch(np.random.default_rng(1), 64)
    assert pixels.shape == (4, 3, 64, 64)
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert sum(len(target["boxes"]) for target in targets) >= 4
    for target in targets:
        low, high = (target["boxes"][:, :2] + side * target["boxes"][:, 2:] / 2 for side in (-1, 1))
        assert (low > -1e-6).all()
        assert (high < 1 + 1e-6).all()
        assert ((target["class_labels"] >= 0) & (target["class_labels"] < len(CATEGORIES))).all()


def test_steps_on_one_batch_lower_the_loss(tmp_path):
    training = Training(tmp_path, minutes=600)
    losses = []
    for _ in range(8):
        training.steps = 99  # the step's number decides what it sees
        losses.append(training.step())
    assert losses[-1] < 0.9 * losses[0]


def test_training_continues_from_its_checkpoint(tmp_path):
    first = Training(tmp_path, minutes=60)
    first.step()
    first.save()
    again = Training(tmp_path, minutes=60)
    assert (again.steps, again.seconds) == (1, first.seconds)
    for ours, theirs in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    model = AutoModelForObjectDetection.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert tuple(model.config.id2label.values()) == CATEGORIES
    assert AutoImageProcessor.from_pretrained(tmp_path / "model").size["height"] == detector.IMAGE_SIZE
