"""Load a detector with transformers' Auto classes: safetensors only, no remote code."""

import socket
from importlib import import_module
from typing import Any

import torch
import transformers

from pipeline.detection.detectors.detector import Detector
from pipeline.detection.families import DETECTORS, DetectorFamily
from pipeline.detection.modelfiles import resolve_detector, with_threshold
from pipeline.detection.settings import DetectionParameters
from pipeline.errors import ModelError
from pipeline.tracking.environment import use_ieee_float32
from pipeline.tracking.model import device_of
from pipeline.tracking.modelfiles import HUB_TIMEOUT_S, ResolvedModel, first_line
from pipeline.tracking.sam2.model import no_progress_bar

MODEL_CLASSES = {
    "closed": "AutoModelForObjectDetection",
    "grounding": "AutoModelForZeroShotObjectDetection",
    "owl": "AutoModelForZeroShotObjectDetection",
    "omdet": "AutoModelForZeroShotObjectDetection",
    "sam3": "Sam3Model",
}


def load_detector(
    name: str,
    parameters: DetectionParameters,
    *,
    revision: str | None = None,
    device: str = "auto",
    digest: str | None = None,
    timeout_s: float = HUB_TIMEOUT_S,
) -> Detector:
    """The detector in fp32, for inference.

    Args:
        name: hub id, folder or `embedded`.
        parameters: classes and threshold.
        revision: of a hub model.
        device: `auto` (CUDA if PyTorch sees a device), `cpu` or `cuda`.
        digest: of the weights that a run was planned with.
        timeout_s: of the hub.

    Raises:
        ModelError: The model or the device cannot be found, weights are missing, or they are not the planned ones.
    """
    place = device_of(device)
    resolved = resolve_detector(name, parameters, revision=revision, timeout_s=timeout_s)
    if digest is not None and resolved.digest != digest:
        raise ModelError(
            f"the weights of {name} on {socket.gethostname()} differ from those the run was planned with; make every "
            "node load the same revision"
        )
    use_ieee_float32()
    parameters = with_threshold(parameters, resolved)
    if parameters.everything:
        from pipeline.detection.detectors.everything import Everything

        return Everything.load(resolved, parameters, place)
    family = DETECTORS[resolved.model_type]
    model, processor = _loaded(resolved, family)
    kind: Any = import_module(f"pipeline.detection.detectors.{family.kind}")
    detector: Detector = kind.make(
        model.float().eval().requires_grad_(False).to(place), processor, resolved, parameters
    )
    return detector


def _loaded(resolved: ResolvedModel, family: DetectorFamily) -> tuple[Any, Any]:
    folder, name = resolved.folder, resolved.name
    model_class: Any = getattr(transformers, MODEL_CLASSES[family.kind])
    processor_class: Any = transformers.AutoImageProcessor if family.kind == "closed" else transformers.AutoProcessor
    if family.kind == "sam3":
        processor_class = transformers.Sam3Processor
    try:
        with no_progress_bar():
            model, report = model_class.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
            processor = processor_class.from_pretrained(folder, local_files_only=True)
    except ImportError as error:  # DETR's and OmDet-Turbo's own checkpoints need timm
        raise ModelError(f"Model {name} needs a package that is not installed: {first_line(error)}") from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"Cannot load model {name} from {folder}: {first_line(error)}") from error
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"Model {name} at {folder} lacks {len(missing)} weights of {family.title}, the first is {missing[0]}."
        )
    return model, processor
