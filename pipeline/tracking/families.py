"""The model families that the engine runs, by the `model_type` of a checkpoint's config.json. Does not import torch.

A family is a folder below `pipeline/tracking/` with two modules: `settings.py`, the settings that enter a model's
digest, and `model.py` with `load(resolved, device)`, which returns a `LoadedModel` (`stepping.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.tracking.edgetam import settings as edgetam
from pipeline.tracking.sam2 import settings as sam2
from pipeline.tracking.sam3 import settings as sam3

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
    name_in_digest: str | None
    """Distinguishes the family's digests. SAM2, the first family, has none."""
    config_section: str | None = None
    """The section of config.json that is the tracker's config; None if all of it is."""
    tracker_tensor: Callable[[str], str | None] = str
    """The tracker's name of a tensor of the checkpoint; None for one that the tracker does not have."""
    object_cost: Callable[[Mapping[str, Any]], float] = sam2.object_cost
    """From config.json, the cost of tracking one object on a frame in units of the frame's fixed cost."""
    memory_bytes: Callable[[Mapping[str, Any]], int] = sam2.memory_bytes
    """From config.json, the bytes of the memory of one object on one frame."""

    def tracker_config(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The tracker's section of config.json."""
        return (config.get(self.config_section) or {}) if self.config_section else config

    def load(self, resolved: "ResolvedModel", device: "torch.device") -> "LoadedModel":
        model: LoadedModel = import_module(f"pipeline.tracking.{self.folder}.model").load(resolved, device)
        return model


FAMILIES = {
    "sam2_video": Family(
        title="SAM2 video model",
        folder="sam2",
        config_in_digest=sam2.CONFIG_IN_DIGEST,
        processor_in_digest=sam2.PROCESSOR_IN_DIGEST,
        name_in_digest=None,
    ),
    "sam3_tracker_video": Family(
        title="SAM3 tracker",
        folder="sam3",
        config_in_digest=sam3.CONFIG_IN_DIGEST,
        processor_in_digest=sam2.PROCESSOR_IN_DIGEST,
        name_in_digest=sam3.NAME_IN_DIGEST,
        object_cost=sam3.object_cost,
        memory_bytes=sam3.memory_bytes,
        tracker_tensor=sam3.tracker_tensor,
    ),
    "sam3_video": Family(
        title="SAM3 video model, of which the tracker is used",
        folder="sam3",
        config_in_digest=sam3.CONFIG_IN_DIGEST,
        processor_in_digest=sam2.PROCESSOR_IN_DIGEST,
        name_in_digest=sam3.NAME_IN_DIGEST,
        object_cost=sam3.object_cost,
        memory_bytes=sam3.memory_bytes,
        config_section="tracker_config",
        tracker_tensor=sam3.tracker_tensor,
    ),
    "edgetam_video": Family(
        title="EdgeTAM video model",
        folder="edgetam",
        config_in_digest=edgetam.CONFIG_IN_DIGEST,
        processor_in_digest=sam2.PROCESSOR_IN_DIGEST,
        name_in_digest=edgetam.NAME_IN_DIGEST,
        object_cost=edgetam.object_cost,
        memory_bytes=edgetam.memory_bytes,
    ),
}
