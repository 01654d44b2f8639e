"""A video as a listing shows it, before it becomes a row of a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The facts of a video that default prompts depend on."""

    width: int
    height: int
    num_frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class FoundVideo:
    """A video as a listing shows it."""

    video_id: str
    """Its path below the folder, or `derived_id` of it."""
    uri: str
    version: str
    start_s: float | None = None
    end_s: float | None = None
    """The segment of the file, where it is not the whole."""
    shape: Shape | None = None
    """Where it is known without opening the video."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """More columns of the manifest, the same for all videos of a listing."""
