"""Find a detector's files and digest them: what a driver needs to know of a detector. Does not import torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.detection.families import DETECTORS, EVERYTHING_THRESHOLD, class_numbers, family_of
from pipeline.detection.settings import DetectionParameters
from pipeline.tracking import modelfiles
from pipeline.tracking.modelfiles import HUB_TIMEOUT_S, ResolvedModel

_TEXT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt",
    "vocab.txt", "added_tokens.json")  # fmt: skip
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "use_cache"})
"""Settings of config.json and processors that change no detection."""


def resolve_detector(
    name: str, parameters: DetectionParameters, *, revision: str | None = None, timeout_s: float = HUB_TIMEOUT_S
) -> ResolvedModel:
    """Find a detector's files, downloading them when `name` is a hub id, and digest them. Loads nothing.

    With `parameters.everything` the model is a tracker's: its own mask generation finds the objects.

    Raises:
        ModelError: The model cannot be found, is no detector, or does not know a class.
    """
    if parameters.everything:
        return modelfiles.resolve(name, revision=revision, timeout_s=timeout_s)
    folder = _find(name, revision, timeout_s)
    config = modelfiles.read_config(folder, name)
    if family_of(config, name).kind == "closed":
        class_numbers(config, parameters.classes, name)
    settings = {"config": _lasting(config), **_other_files(folder)}
    digest = modelfiles.digest_weights(folder, settings, name)
    return ResolvedModel(name=name, model_type=config["model_type"], folder=folder, digest=digest)


def with_threshold(parameters: DetectionParameters, model: ResolvedModel) -> DetectionParameters:
    """The parameters with the least score that suits the model's family, unless they give one."""
    if parameters.threshold is not None:
        return parameters
    own = EVERYTHING_THRESHOLD if parameters.everything else DETECTORS[model.model_type].threshold
    return replace(parameters, threshold=own)


def _find(name: str, revision: str | None, timeout_s: float) -> Path:
    if name == "embedded":
        return modelfiles.EMBEDDED / "detector"
    files = (*modelfiles.FILES, *_TEXT_FILES)
    return modelfiles.find_folder(name, revision=revision, timeout_s=timeout_s, files=files)


def _other_files(folder: Path) -> dict[str, Any]:
    """What the processors and the tokenizer decide: settings of the first, digests of the second."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*processor_config.json")):
        found[path.name] = _lasting(json.loads(path.read_text()))
    for name in _TEXT_FILES:
        if (path := folder / name).is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _lasting(settings: Any) -> Any:
    """Settings without those that change no detection."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: _lasting(value) for key, value in settings.items() if key not in _VOLATILE}
