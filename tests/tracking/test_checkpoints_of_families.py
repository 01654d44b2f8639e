"""Checkpoints of each family as users have them: folders of config.json, processor and safetensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from jobs import label
from pipeline.tables.query import open_labels
from pipeline.tracking import Engine
from pipeline.tracking.model import load
from pipeline.tracking.sam2.model import Sam2
from pipeline.tracking.sam3.model import Sam3
from tests.clips import red, write_clip, write_manifest
from tests.tracking import models
from tests.tracking import videos as v

OBJECTS = [v.tracked(1, f0=v.prompt("click")), v.tracked(2, f1=v.prompt("mask"))]


def assert_same_masks(one: Sam2, other: Sam2) -> None:
    source = v.MemorySource(one, v.video(4))
    pairs = zip(Engine(one).propagate(source, OBJECTS), Engine(other).propagate(source, OBJECTS), strict=True)
    for a, b in pairs:
        assert (a.logits > 0).any()
        assert torch.equal(a.logits, b.logits)


@pytest.mark.parametrize("model_type", models.FAMILIES)
def test_a_checkpoint_of_each_family_gives_its_models_masks(model_type: str, tmp_path: Path) -> None:
    made = models.FAMILIES[model_type]()
    loaded: Any = load(models.random_model_folder(tmp_path / "model", made), device="cpu")
    assert type(loaded) is type(made)
    assert_same_masks(loaded, made)


def test_the_tracker_of_a_whole_sam3_model_is_loaded_without_the_detector(tmp_path: Path) -> None:
    tracker = models.FAMILIES["sam3_tracker_video"]()
    assert isinstance(tracker, Sam3)
    whole: Any = load(models.random_sam3_folder(tmp_path / "whole", tracker), device="cpu")
    alone: Any = load(models.random_model_folder(tmp_path / "alone", tracker), device="cpu")
    assert_same_masks(whole, tracker)
    assert whole.digest == alone.digest, "the same tracker, the same label keys"
    with safe_open(tmp_path / "whole" / "model.safetensors", "pt") as file:
        stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - not a mapping
    assert sum(p.numel() for p in whole.model.parameters()) == sum(p.numel() for p in tracker.model.parameters())
    assert sum(p.numel() for p in whole.model.parameters()) < stored


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("kind", ["sam3_video", "edgetam_video"])
def test_label_takes_a_checkpoint_of_each_family(kind: str, tmp_path: Path) -> None:
    if kind == "sam3_video":
        tracker = models.FAMILIES["sam3_tracker_video"]()
        assert isinstance(tracker, Sam3)
        folder = models.random_sam3_folder(tmp_path / "model", tracker)
    else:
        folder = models.random_model_folder(tmp_path / "model", models.FAMILIES[kind]())
    write_clip(tmp_path / "v.mp4", frames=3)
    rows = [{"video_id": "v", "video_uri": str(tmp_path / "v.mp4"), "prompts": [red()]}]
    output = tmp_path / "out"
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    assert label.main(["--manifest", manifest, "--output", str(output), "--model", folder, "--actors", "1"]) == 0
    with open_labels(output) as labels:
        found = labels.sql("SELECT frame_index, area FROM masks ORDER BY 1").fetchall()
    assert [frame for frame, _ in found] == [0, 1, 2]
    assert any(area for _, area in found)
