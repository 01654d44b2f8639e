"""Load SAM3's tracker with transformers, from a checkpoint of its own or of the whole SAM3 video model."""

import json

import torch
from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel, Sam3TrackerVideoProcessor

from pipeline.tracking.modelfiles import ResolvedModel
from pipeline.tracking.sam2.model import Sam2, read_model, read_processor, wrap
from pipeline.tracking.sam3.step import Sam3Stepper


class Sam3(Sam2):
    """A loaded SAM3 tracker and its processor."""

    def stepper(self, *, dtype: torch.dtype) -> Sam3Stepper:
        return Sam3Stepper(self, dtype=dtype)


def load(resolved: ResolvedModel, device: torch.device) -> Sam3:
    """The tracker in fp32, for inference. The detector's weights are not read.

    Raises:
        ModelError: A file cannot be read, or weights are missing.
    """
    settings = json.loads((resolved.folder / "config.json").read_text())
    config = Sam3TrackerVideoConfig(**settings.get("tracker_config", settings))
    model = read_model(resolved, Sam3TrackerVideoModel, "SAM3 tracker", config=config)
    processor = read_processor(resolved, Sam3TrackerVideoProcessor)
    return wrap(Sam3, model, processor, name=resolved.name, digest=resolved.digest, device=device)
