"""The label key: what determines a video's masks, and the settings that are part of it."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import numpy as np

from pipeline.errors import UsageError

ALGORITHM_VERSION = 1
"""Increase it only when the masks of the same inputs change; this relabels every corpus."""

CONDITIONING_FRAMES = 4
"""Prompted frames that a frame of a video with detections attends to, as SAM 3's tracker does."""

Direction = Literal["forward", "backward", "both"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The settings that change masks; part of every label key.

    Raises:
        UsageError: A value is not among those allowed.
    """

    direction: Direction = "forward"
    """From an object's earliest prompt to the end, back to frame 0, or first forward, then backward."""
    dtype: Dtype = "float32"
    """Precision of the model: float32, or bfloat16 by autocast."""
    mask_threshold: float = 0.0
    """A pixel belongs to the mask when its logit is above this."""
    max_hole_area: int = 0
    """Holes of at most this many pixels (displayed, 8-connected) are filled."""
    max_sprinkle_area: int = 0
    """Separate parts of at most this many pixels (displayed, 8-connected) are dropped."""
    non_overlapping: bool = False
    """Where finished masks overlap, the pixel goes to the object with the highest logit."""

    max_conditioning_frames: int | None = None
    """A frame attends to so many prompted frames, the latest that its pass has reached. None: to all, also later ones;
    videos with detections: CONDITIONING_FRAMES."""
    retire_after_s: float | None = None
    """An object of the manifest's prompts that is absent for so many seconds ends, until its next prompt. None: never.
    Videos with detections: see `Association`."""

    def __post_init__(self) -> None:
        for name, allowed in (("direction", get_args(Direction)), ("dtype", get_args(Dtype))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        if not np.isfinite(self.mask_threshold):
            raise UsageError(f"mask threshold is {self.mask_threshold}; allowed is any finite number")
        for name in ("max_hole_area", "max_sprinkle_area"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)} pixels; allowed is 0 (off) or more")
        if self.max_conditioning_frames is not None and self.max_conditioning_frames < 1:
            raise UsageError(f"max conditioning frames is {self.max_conditioning_frames}; allowed is 1 or more")
        if self.retire_after_s is not None and not 0 < self.retire_after_s < math.inf:
            raise UsageError(f"--retire-after is {self.retire_after_s} s; allowed are seconds above 0, or off")

    def for_detections(self) -> "Parameters":
        """These settings for a video with detections, whose prompts are decided while tracking."""
        frames = CONDITIONING_FRAMES if self.max_conditioning_frames is None else self.max_conditioning_frames
        return replace(self, max_conditioning_frames=frames, retire_after_s=None)

    def to_json(self) -> str:
        """Canonical JSON, as label keys and the videos table hold it. Settings of later releases are left out at their
        default, so that older label keys stay."""
        values = {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))


LATER: dict[str, object] = {"max_conditioning_frames": None, "retire_after_s": None}
"""Settings that the first release did not have, with their defaults."""


def label_key(
    *,
    version: str,
    start_s: float | None,
    end_s: float | None,
    prompts: str,
    weights: str,
    parameters: str,
    fps: float | None = None,
    algorithm_version: int = ALGORITHM_VERSION,
    detections: str | None = None,
    association: str | None = None,
    label_rate: str | None = None,
) -> str:
    """Name of a video's labels: sha256, in hex, of canonical JSON of all that determines its masks.

    Args:
        version: the video's content: the owner's version, else size and ETag, else size and modification time.
        start_s: where the labelled segment starts, in seconds of the file, if not at its start.
        end_s: where it ends, if not at the file's end.
        prompts: digest of the prompts' geometry.
        weights: digest of the model's weights.
        parameters: `Parameters.to_json()`.
        fps: the manifest's rate of an image sequence, see `manifest.fps.rate_of`.
        algorithm_version: version of the algorithm that makes the labels.
        detections: digest of the video's detections.
        association: settings by which detections become prompts, where there are any.
        label_rate: which frames are labelled, such as `6fps` or `3f`; None for all.
    """
    parts = [algorithm_version, version, start_s, end_s, prompts, weights, parameters]
    if fps is not None:
        parts.append({"fps": fps})
    if detections is not None:
        parts.append({"detections": detections, "association": association})
    if label_rate is not None:
        parts.append({"label_rate": label_rate})
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


KEY_COLUMNS = {
    "version": "video",
    "start_s": "segment",
    "end_s": "segment",
    "fps": "fps",
    "label_rate": "label rate",
    "prompts_digest": "prompts",
    "detections_digest": "detections",
    "association": "association",
    "weights_digest": "model",
    "parameters": "parameters",
    "algorithm_version": "algorithm",
}
"""Columns of the videos table that hold the inputs of its label key, with the user's name of each.

fps is the rate that was used, and is part of the key only where the manifest gives it for an image sequence.
"""
