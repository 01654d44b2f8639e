"""Propagation of prompted objects through a video: exact, in bounded memory, batched over objects and videos."""

from pipeline.tracking.engine import Engine
from pipeline.tracking.finish import Finish
from pipeline.tracking.prompts import Direction, FramePrompt, FrameSource, TrackedFrame, TrackedObject
from pipeline.tracking.propagation import Propagation

__all__ = [
    "Direction",
    "Engine",
    "Finish",
    "FramePrompt",
    "FrameSource",
    "Propagation",
    "TrackedFrame",
    "TrackedObject",
]
