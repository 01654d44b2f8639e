"""The detectors that are supported, by the `model_type` of a checkpoint's config.json. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import ModelError

Kind = Literal["closed", "grounding", "owl", "omdet", "sam3"]

EVERYTHING_THRESHOLD = 0.8
"""Least predicted IoU with --everything: the default of SAM 2's own mask generation."""


@dataclass(frozen=True, kw_only=True)
class DetectorFamily:
    title: str
    """The model's name in messages."""
    kind: Kind
    """The module below `pipeline.detection.detectors` that runs it."""
    threshold: float = 0.3
    """Least score of a detection where the user gives none."""


DETECTORS = {
    "detr": DetectorFamily(title="DETR", kind="closed", threshold=0.5),
    "rt_detr": DetectorFamily(title="RT-DETR", kind="closed"),
    "rt_detr_v2": DetectorFamily(title="RT-DETRv2", kind="closed"),
    "d_fine": DetectorFamily(title="D-FINE", kind="closed"),
    "rf_detr": DetectorFamily(title="RF-DETR", kind="closed"),
    "grounding-dino": DetectorFamily(title="Grounding DINO", kind="grounding"),
    "mm-grounding-dino": DetectorFamily(title="MM-Grounding-DINO", kind="grounding"),
    "owlv2": DetectorFamily(title="OWLv2", kind="owl", threshold=0.2),
    "omdet-turbo": DetectorFamily(title="OmDet-Turbo", kind="omdet"),
    "sam3": DetectorFamily(title="SAM 3", kind="sam3"),
    "sam3_video": DetectorFamily(title="SAM 3", kind="sam3"),
}


def family_of(config: Mapping[str, Any], name: str) -> DetectorFamily:
    """The family of a checkpoint.

    Raises:
        ModelError: It is no detector; the message lists those that are.
    """
    kind = config.get("model_type")
    if kind not in DETECTORS:
        allowed = ", ".join(f"{key!r} ({family.title})" for key, family in DETECTORS.items())
        raise ModelError(f"Model {name} is no detector: its model_type is {kind!r}. Supported values are {allowed}.")
    return DETECTORS[kind]


def class_numbers(config: Mapping[str, Any], classes: tuple[str, ...], name: str) -> dict[int, str]:
    """Label numbers of a closed-set model by the class that was asked for; case and underscores do not count.

    Raises:
        ModelError: The model does not know a class; the message lists those that it knows.
    """
    known = {int(number): str(label) for number, label in (config.get("id2label") or {}).items()}
    found = {number: _plain(label) for number, label in known.items()}
    missing = [each for each in classes if _plain(each) not in found.values()]
    if missing:
        allowed = ", ".join(sorted(set(known.values())))
        raise ModelError(
            f"Model {name} does not know the class {missing[0]!r}; it knows {allowed}. "
            "Text-prompted detectors (Grounding DINO, OWLv2, OmDet-Turbo, SAM 3) take any class."
        )
    wanted = {_plain(each): each for each in classes}
    return {number: wanted[label] for number, label in found.items() if label in wanted}


def _plain(label: str) -> str:
    return " ".join(label.lower().replace("_", " ").split())
