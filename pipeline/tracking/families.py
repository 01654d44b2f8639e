"""The model families that the engine runs, by the `model_type` of a checkpoint's config.json. Does not import torch.

A family is a folder below `pipeline/tracking/` with two modules: `settings.py`, the settings that enter a model's
digest, and `model.py` with `load(resolved, device)`, which returns a `LoadedModel` (`stepping.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.tracking.sam2 import settings as sam2

if TYPE_CHECKING:
    import torch

    from pipeline.tracking.modelfiles import ResolvedModel
    from pipeline.tracking.stepping import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Family:
    title: str
    """The model's name in messages."""
    folder: str
    """The package below `pipeline.tracking`."""
    config_in_digest: Mapping[str, str]
    """Names of the settings in config.json that change masks, by section."""
    processor_in_digest: str
    """The same for the video processor's settings."""
    object_cost: Callable[[Mapping[str, Any]], float] = sam2.object_cost
    """From config.json, the cost of tracking one object on a frame in units of the frame's fixed cost."""

    def load(self, resolved: "ResolvedModel", device: "torch.device") -> "LoadedModel":
        model: LoadedModel = import_module(f"pipeline.tracking.{self.folder}.model").load(resolved, device)
        return model


FAMILIES = {
    "sam2_video": Family(
        title="SAM2 video model",
        folder="sam2",
        config_in_digest=sam2.CONFIG_IN_DIGEST,
        processor_in_digest=sam2.PROCESSOR_IN_DIGEST,
    ),
}
