"""A transformers that computes something else is noticed when a model is loaded, and the reference then labels."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.tracking import Engine
from pipeline.tracking.engine_check import ALLOWED, compare_steps
from pipeline.tracking.engines import choose_stepper
from pipeline.tracking.reference import ReferenceStepper
from pipeline.tracking.stepping import LoadedModel
from pipeline.tracking.verdicts import SLOW_S, Verdicts, check_key
from tests.tracking import compare, models
from tests.tracking import videos as v
from tests.tracking.patched import patched

FP32 = torch.float32
CHANGES = {
    "a constant of mask prompts": ("out_scale, out_bias = 20.0, -10.0", "out_scale, out_bias = 20.0, -9.9"),
    "a wave length": ("dim, temperature=10000)", "dim, temperature=1000)"),
    "the scale of distances": ("max_object_pointers_to_use - 1)", "max_object_pointers_to_use)"),
    "the age of memories": ("encoding[relative_temporal_offset - 1]", "encoding[relative_temporal_offset - 2]"),
    "the number of memories": ("range(self.num_maskmem - 1, 0, -1)", "range(self.num_maskmem - 2, 0, -1)"),
    "the name of an attribute": ("self.backbone_feature_sizes", "self.feature_sizes_of_backbone"),
    "the name of a method": ("_use_multimask", "_wants_multimask"),
    "the name of a constant": ("NO_OBJ_SCORE", "NO_OBJECT_SCORE"),
    "the scale of a weight by 1 %": (
        "current_vision_features + self.no_memory_embedding",
        "current_vision_features + 1.01 * self.no_memory_embedding",
    ),
    "the order of layers": (
        "for layer in self.layers:\n            output",
        "for layer in self.layers[::-1]:\n            output",
    ),
    "the bias of a layer": (
        "self.upscale_conv1 = nn.ConvTranspose2d(self.hidden_size, self.hidden_size // 4, kernel_size=2, stride=2)",
        "self.upscale_conv1 = nn.ConvTranspose2d(self.hidden_size, self.hidden_size // 4, 2, 2, bias=False)",
    ),
    "the logits of corrections": ("mask_inputs = prev_sam_mask_logits", "mask_inputs = prev_sam_mask_logits.flip(-1)"),
    "the order of tokens": (
        "self.obj_score_token.weight,\n                self.iou_token.weight,",
        "self.iou_token.weight,\n                self.obj_score_token.weight,",
    ),
}
"""Texts of transformers' model, and what another release might have instead."""
NEITHER = ("def _run_single_frame_inference(", "def _run_one_frame(")


FAMILIES = {
    "embedded": models.embedded,
    "sam2": lambda: models.random_model(1),
    "sam3": lambda: models.random_sam3(models.small_sam3_config()),
    "edgetam": lambda: models.random_edgetam(models.small_edgetam_config()),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_step_equals_the_references_to_rounding(family: str) -> None:
    model: LoadedModel = FAMILIES[family]()
    fast, reference = model.stepper(dtype=FP32), ReferenceStepper(model, dtype=FP32)
    found = [*compare_steps(fast, reference, size=model.image_size)]
    assert {d.value for d in found} == set(ALLOWED)
    assert all(d.found < d.allowed / 5 for d in found)
    assert any(d.found > 0 for d in found)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_transformers_is_noticed(name: str) -> None:
    choice = choose_stepper(patched(models.random_model(1), dict([CHANGES[name]])), dtype=FP32, verdicts=Verdicts(None))
    assert choice.stepper.engine == "reference"
    print(f"\n{name}: {choice.warning}")
    assert choice.warning is not None
    assert "does not give transformers' results for model random" in choice.warning


def test_the_fallback_gives_the_masks_of_the_installed_transformers(caplog: pytest.LogCaptureFixture) -> None:
    model = patched(models.random_model(1), dict([CHANGES["the order of layers"]]))
    objects = [v.tracked(1, f0=v.prompt("click")), v.tracked(2, f1=v.prompt("box"))]
    changed = compare.to_transformers(model, v.video(4), objects, "both")
    assert changed.flipped > 100, "the fast engine's masks are others"
    choice = choose_stepper(model, dtype=FP32, verdicts=Verdicts(None))
    right = compare.to_transformers(model, v.video(4), objects, "both", engine=Engine(model, stepper=choice.stepper))
    assert right.inside
    assert (right.flipped, right.object_logit, right.predicted_iou) == (0, 0.0, 0.0)
    assert [record.getMessage() for record in caplog.records] == [choice.warning]


def test_a_worker_refuses_a_drift_if_it_is_asked_to(tmp_path: Path) -> None:
    model = patched(models.random_model(1), dict([CHANGES["the order of layers"]]))
    with pytest.raises(ModelError, match=r"tracking differs by .*--on-drift fallback"):
        choose_stepper(model, dtype=FP32, on_drift="fail", verdicts=Verdicts(tmp_path))
    assert choose_stepper(model, dtype=FP32, engine="reference", on_drift="fail").warning is None
    broken = patched(models.random_model(1), dict([NEITHER]))
    with pytest.raises(ModelError, match=r"The reference engine fails, too \(AttributeError"):
        choose_stepper(broken, dtype=FP32, verdicts=Verdicts(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_equal_engine_is_checked_once(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    verdicts = Verdicts(None)
    for _ in range(2):
        choice = choose_stepper(models.embedded(), dtype=dtype, verdicts=verdicts)
        assert (choice.stepper.engine, choice.warning) == ("fast", None)
    assert caplog.text.count("equal transformers'") == 1


def test_a_slow_check_is_kept_for_other_processes(tmp_path: Path) -> None:
    model = models.embedded()
    key = check_key(model)
    Verdicts(tmp_path / "cache").add(key, model=model, seconds=SLOW_S)
    assert Verdicts(tmp_path / "cache").passed(key)
    assert not Verdicts(tmp_path / "cache").passed(check_key(models.random_model(1)))
    Verdicts(tmp_path / "quick").add(key, model=model, seconds=0.1)
    assert not Verdicts(tmp_path / "quick").passed(key)
    (tmp_path / "file").touch()
    unwritable = Verdicts(tmp_path / "file")
    unwritable.add(key, model=model, seconds=SLOW_S)
    assert unwritable.passed(key)
