"""What a driver and its workers tell each other: what all videos share, what one is to get, what came of it."""

from dataclasses import dataclass

from pipeline.labels.key import Parameters
from pipeline.manifest import Video
from pipeline.storage import Storage
from pipeline.video import OnDamaged


@dataclass(frozen=True, kw_only=True)
class LabelerSettings:
    """What all videos of a run have in common; travels to the workers."""

    output: str
    storage: Storage
    model: str
    revision: str | None
    weights_digest: str
    device: str
    threads: int
    lanes: int
    parameters: Parameters
    on_damaged: OnDamaged
    checkpoint_every_s: float
    check_drift: bool = False
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One video to label, and the version of it that its label key speaks of."""

    video: Video
    label_key: str
    version: str
    prompts_digest: str
    attempt: int
    isolate: bool
    """Decode in a process of its own: an earlier attempt ended with its worker, perhaps by this video's fault."""
    resume: bool = False
    """Look for a checkpoint: an earlier try or run may have left one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A labelled video, in numbers: frames and masks are those made since its last checkpoint."""

    video_id: str
    frames: int
    masks: int
    seconds: float
    was_there: bool
    """Somebody else had committed these labels already."""
    truncated: bool = False
    """The file ends before what its own index or header promises."""
    damaged: bool = False
    """Frames are missing or concealed for another reason."""
