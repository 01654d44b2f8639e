"""Load an EdgeTAM video model with transformers; its image encoder is timm's."""

import torch
from transformers import EdgeTamVideoModel, Sam2VideoProcessor

from pipeline.errors import ModelError
from pipeline.tracking.edgetam.step import EdgeTamStepper
from pipeline.tracking.modelfiles import ResolvedModel
from pipeline.tracking.sam2.model import Sam2, read_model, read_processor, wrap


class EdgeTam(Sam2):
    """A loaded EdgeTAM video model and its processor."""

    def stepper(self, *, dtype: torch.dtype) -> EdgeTamStepper:
        return EdgeTamStepper(self, dtype=dtype)


def load(resolved: ResolvedModel, device: torch.device) -> EdgeTam:
    """The model in fp32, for inference.

    Raises:
        ModelError: timm is not installed, a file cannot be read, or weights are missing.
    """
    try:
        import timm  # noqa: F401
    except ImportError:
        raise ModelError(
            f"Model {resolved.name} is an EdgeTAM video model, whose image encoder is in the package timm. "
            "Install it on all nodes: pip install 'sam2-corpus[edgetam]'."
        ) from None
    model = read_model(resolved, EdgeTamVideoModel, "EdgeTAM video model")
    processor = read_processor(resolved, Sam2VideoProcessor)
    return wrap(EdgeTam, model, processor, name=resolved.name, digest=resolved.digest, device=device)
