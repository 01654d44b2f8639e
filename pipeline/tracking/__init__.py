"""Propagation of prompted objects through a video: exact, in bounded memory, batched over objects and videos."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pipeline.tracking.engine import Engine
    from pipeline.tracking.objects import Direction, FramePrompt, FrameSource, TrackedFrame, TrackedObject
    from pipeline.tracking.postprocess import MaskPostprocessor
    from pipeline.tracking.propagation import Propagation

__all__ = [
    "Direction",
    "Engine",
    "EngineKind",
    "FramePrompt",
    "FrameSource",
    "MaskPostprocessor",
    "OnDrift",
    "Propagation",
    "TrackedFrame",
    "TrackedObject",
]

EngineKind = Literal["fast", "reference"]
"""fast: this project's own steps on transformers' weights; reference: transformers' own loop (`reference.py`)."""
OnDrift = Literal["fallback", "fail"]
"""What happens if the fast engine's results are not those of the reference when a model is loaded."""

_HOMES = {"Engine": "engine", "MaskPostprocessor": "postprocess", "Propagation": "propagation"}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use: a driver resolves a model's files without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'objects')}"), name)
