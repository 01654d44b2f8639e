"""Messages between the driver and its workers: settings of the run, a video to label, its outcome."""

from dataclasses import dataclass, field

from pipeline.detection.settings import DetectionParameters
from pipeline.detection.thresholds import Association
from pipeline.labels.key import Parameters
from pipeline.manifest import Video
from pipeline.storage import Storage
from pipeline.tracking import EngineKind, OnDrift
from pipeline.video import OnDamaged


@dataclass(frozen=True, kw_only=True)
class LabelerSettings:
    """Settings that all videos of a run share; sent to every worker."""

    output: str
    storage: Storage
    model: str
    revision: str | None
    weights_digest: str
    device: str
    threads: int
    lanes: int
    parameters: Parameters
    association: Association = field(default_factory=Association)
    on_damaged: OnDamaged
    checkpoint_every_s: float
    check_drift: bool = False
    keep_states: int = 0
    """Number of states to keep of each video; 0 for none."""
    detection: DetectionParameters | None = None
    """Settings of a run of detection, which makes detections instead of labels."""
    engine: EngineKind = "fast"
    on_drift: OnDrift = "fallback"
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Task:
    """One video to label, and the content version that its label key was made from."""

    video: Video
    label_key: str
    version: str
    prompts_digest: str
    attempt: int
    isolate: bool
    """Decode in a child process: an earlier attempt ended its worker, perhaps because of this video."""
    parameters: Parameters | None = None
    """Of this video, where they differ from those of the run."""
    detections_digest: str | None = None
    """None for a video without detections."""
    cuts: tuple[int, ...] = ()
    """First frames after cuts, at which objects of detections end."""
    label_rate: str | None = None
    """Which frames are labelled, such as `6fps` or `3f`; None for all."""
    earlier_key: str | None = None
    """Label key of the video's published labels, whose states may save frames; None without such labels or states."""
    resume: bool = False
    """Look for a checkpoint of an earlier attempt or run."""
    copy_of: tuple[str, str] | None = None
    """Id and label key of a labelled video of equal content and prompts, whose labels are copied if they are there."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Numbers of a labelled video; frames and masks are those made since its last checkpoint."""

    video_id: str
    frames: int
    masks: int
    seconds: float
    was_there: bool
    """These labels had already been committed by another worker or run."""
    truncated: bool = False
    """The file ends before what its own index or header promises."""
    damaged: bool = False
    """Frames are missing or concealed for another reason."""
