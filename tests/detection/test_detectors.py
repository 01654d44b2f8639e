import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.detection.detectors.detector import Detector, Rgb
from pipeline.detection.detectors.loading import load_detector
from pipeline.detection.modelfiles import resolve_detector, with_threshold
from pipeline.detection.settings import DetectionParameters, parse_classes
from pipeline.errors import ModelError, UsageError
from tests.detection import tiny_models
from tests.detection.tiny_models import CLASSES, CLOSED, KINDS

WANTED = DetectionParameters(classes=CLASSES, threshold=0.2)
CLOSED_KINDS = ("detr", "rt_detr", "rt_detr_v2", "d_fine", "rf_detr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors")


@pytest.fixture(scope="module")
def frames() -> list[Rgb]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(3)]


def loaded(kind: str, folder: Path, parameters: DetectionParameters = WANTED) -> Detector:
    where = folder / kind
    return load_detector(str(where if where.is_dir() else tiny_models.save(kind, folder)), parameters, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_detects_what_its_frames_hold_alone(kind: str, folder: Path, frames: list[Rgb]) -> None:
    detector = loaded(kind, folder)
    prepared = [detector.prepare(frame) for frame in frames]
    batch = detector.detect(prepared)
    assert sum(len(found) for found in batch) > 3
    for frame, found in zip(prepared, batch, strict=True):
        (alone,) = detector.detect([frame])
        assert list(found.categories) == list(alone.categories)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=2 / 64)
        np.testing.assert_allclose(found.scores, alone.scores, atol=2e-4)
        assert set(found.categories) <= set(CLASSES)
        assert (np.diff(found.scores) <= 0).all()
        assert (found.scores >= WANTED.least_score).all()
        x_min, y_min, x_max, y_max = found.boxes.T
        assert ((x_min >= 0) & (x_min < x_max) & (x_max <= 120) & (y_min >= 0) & (y_min < y_max) & (y_max <= 90)).all()
    if kind == "sam3":
        assert all(found.masks is not None and len(found.masks) == len(found) for found in batch)


@pytest.mark.parametrize("kind", CLOSED_KINDS)
def test_a_closed_set_model_keeps_the_boxes_of_the_wanted_classes(kind: str, folder: Path, frames: list[Rgb]) -> None:
    detector: Any = loaded(kind, folder)
    one = loaded(kind, folder, DetectionParameters(classes=("car",), threshold=0.2))
    (every,), (cars,) = detector.detect([detector.prepare(frames[0])]), one.detect([one.prepare(frames[0])])
    wanted = [at for at, name in enumerate(every.categories) if name == "car"]
    np.testing.assert_array_equal(cars.boxes, every.boxes[wanted])
    with torch.inference_mode():
        inputs = detector.processor(images=frames[0], return_tensors="pt")
        (own,) = detector.processor.post_process_object_detection(
            detector.model(**inputs), threshold=0.2, target_sizes=[(90, 120)]
        )
    names = [CLOSED[label] for label in own["labels"].tolist()]
    assert len(every) <= len(names)
    assert len(cars) == names.count("car")


def test_grounding_names_a_box_by_its_best_token(folder: Path, frames: list[Rgb]) -> None:
    detector: Any = loaded("grounding-dino", folder)
    (found,) = detector.detect([detector.prepare(frames[0])])
    with torch.inference_mode():
        inputs = detector.processor(images=frames[0], text=[list(CLASSES)], return_tensors="pt")
        outputs = detector.model(**inputs)
    (own,) = detector.processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.2, text_threshold=0.2, target_sizes=[(90, 120)]
    )
    assert inputs["input_ids"].tolist() == detector.text["input_ids"].tolist()
    for score, box in zip(found.scores, found.boxes, strict=True):  # transformers' score may be of a separator
        assert any(np.allclose(box, other.clip(0), atol=2 / 64) and score <= best + 1e-4
                   for other, best in zip(own["boxes"].numpy(), own["scores"].numpy(), strict=True))  # fmt: skip


def test_an_unknown_class_of_a_closed_set_is_named_with_those_known(folder: Path) -> None:
    with pytest.raises(ModelError, match="does not know the class 'zebra'; it knows Red_Bird, car, person, tree"):
        loaded("rt_detr", folder, DetectionParameters(classes=("car", "zebra")))


def test_too_many_classes_for_a_text_prompt_are_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="tokens; 64 are allowed"):
        loaded("grounding-dino", folder, DetectionParameters(classes=tuple(f"car {n}" for n in range(40))))


def test_a_tracker_is_refused_as_a_detector() -> None:
    from pipeline.tracking.modelfiles import EMBEDDED

    with pytest.raises(ModelError, match=r"its model_type is 'sam2_video'. Supported values are 'detr'"):
        resolve_detector(str(EMBEDDED), WANTED)


def test_the_embedded_detector_knows_shapes_and_no_other_class() -> None:
    assert resolve_detector("embedded", DetectionParameters(classes=("shape",))).model_type == "rt_detr_v2"
    with pytest.raises(ModelError, match="shape"):
        resolve_detector("embedded", DetectionParameters(classes=("car",)))


def test_a_checkpoint_without_all_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    loaded("detr", folder)
    broken = Path(shutil.copytree(folder / "detr", tmp_path / "broken"))
    weights = load_file(broken / "model.safetensors")
    del weights["class_labels_classifier.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights of DETR, the first is class_labels_classifier.weight"):
        load_detector(str(broken), WANTED, device="cpu")


def test_other_weights_than_the_planned_ones_are_refused(folder: Path) -> None:
    loaded("detr", folder)
    with pytest.raises(ModelError, match="differ from those the run was planned with"):
        load_detector(str(folder / "detr"), WANTED, device="cpu", digest="0" * 64)


def test_the_digest_is_that_of_weights_processor_and_text(folder: Path, tmp_path: Path) -> None:
    loaded("owlv2", folder)
    digest = resolve_detector(str(folder / "owlv2"), WANTED).digest
    copy = Path(shutil.copytree(folder / "owlv2", tmp_path / "elsewhere"))

    def changed(name: str, change: Any) -> bool:
        before = (copy / name).read_text()
        (copy / name).write_text(json.dumps(change(json.loads(before))))
        other = resolve_detector(str(copy), WANTED).digest
        (copy / name).write_text(before)
        return other != digest

    assert resolve_detector(str(copy), WANTED).digest == digest
    assert not changed("config.json", lambda config: {**config, "transformers_version": "6.0", "dtype": "float16"})
    assert changed("config.json", lambda config: {**config, "projection_dim": 16})
    processor = next(path.name for path in copy.glob("*processor_config.json"))
    assert changed(processor, lambda settings: {**settings, "more": 1})
    assert changed("tokenizer.json", lambda settings: {**settings, "more": 1})


def test_thresholds_default_to_those_of_the_family(folder: Path) -> None:
    for kind, threshold in (("detr", 0.5), ("owlv2", 0.2), ("rt_detr", 0.3)):
        by_model = DetectionParameters(classes=CLASSES)
        loaded(kind, folder, by_model)
        resolved = resolve_detector(str(folder / kind), by_model)
        assert with_threshold(by_model, resolved).threshold == threshold
        assert with_threshold(WANTED, resolved) == WANTED


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"classes": ("car",), "at": "5"}, "--at is '5'; allowed are"),
        ({"classes": ("car",), "at": "0s"}, "--at is '0s'"),
        ({"classes": ("car",), "threshold": 1.5}, "--threshold is 1.5"),
        ({"classes": ("car",), "threshold": float("nan")}, "--threshold is nan"),
        ({}, "--classes is missing"),
        ({"classes": ("car",), "everything": True}, "leave --classes out"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        DetectionParameters(**given)


def test_classes_are_sorted_and_each_taken_once() -> None:
    assert parse_classes("Person, car,  red   bird, car") == ("car", "person", "red bird")
    for wrong in ("", "car,,person", "car. person"):
        with pytest.raises(UsageError, match="--classes is"):
            parse_classes(wrong)
