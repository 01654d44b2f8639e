"""The configuration of a run: every option of `jobs.label`, checked before anything is loaded."""

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from pipeline.detection.settings import DetectionParameters
from pipeline.detection.sources.reading import Reading
from pipeline.detection.thresholds import Association
from pipeline.errors import UsageError
from pipeline.labels.changes import leaves_earlier_frames
from pipeline.labels.key import Parameters
from pipeline.runs.groups import WorkerGroup, check_groups
from pipeline.tracking import EngineKind, OnDrift

OnBadRow = Literal["fail", "skip"]
OnDamaged = Literal["label", "fail"]
FindDuplicates = Literal["off", "etag", "content", "packets"]
Device = Literal["auto", "cpu", "cuda"]

GPU_LANES, CPU_LANES = 8, 1
"""Videos that one actor labels at a time, unless the configuration says otherwise."""


@dataclass(frozen=True, kw_only=True)
class DetectFirst:
    """The detection that comes before labelling; its table is in OUTPUT/detections."""

    model: str
    """The detector."""
    parameters: DetectionParameters


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One labelling run.

    Raises:
        UsageError: A value is not allowed; the message names the option, the value and what is allowed.
    """

    manifest: str
    output: str
    model: str
    parameters: Parameters = field(default_factory=Parameters)
    detection: DetectionParameters | None = None
    """Detect objects instead of labelling them: the settings of `jobs.detect`."""
    label_fps: float | None = None
    """Frames to label a second of video, and prompted frames (default: all frames)."""
    every: str | None = None
    """The same as a distance between labelled frames: `3f` or `0.5s`."""
    detect: DetectFirst | None = None
    """Detect objects in the videos of the manifest, which may also be a folder, before they are labelled."""
    prompts: str | None = None
    detections: str | None = None
    """Detections of the rows that name none in their column `detections`: a table, other tools' files, or a folder."""
    reading: Reading = field(default_factory=Reading)
    """What these files do not say themselves."""
    association: Association = field(default_factory=Association)
    """Settings by which detections become prompts."""
    end_at_cuts: str | None = None
    """Table of jobs.shots: no object survives a cut, and detections begin objects anew after it."""
    revision: str | None = None
    device: Device = "auto"
    engine: EngineKind = "fast"
    """The engine that computes the masks. Both give the same ones, to rounding, so it is not part of the label key."""
    on_drift: OnDrift = "fallback"
    """What a worker does if the fast engine's results are not transformers' own when the model is loaded."""
    actors: int | None = None
    """Number of workers (default: one per GPU of the cluster, two without GPUs)."""
    cpus_per_actor: float = 1.0
    gpus_per_actor: float | None = None
    """GPUs reserved per actor (default: 1, on CPUs 0)."""
    lanes: int | None = None
    """Videos that one actor labels at a time (default: 8 on GPUs, 1 on CPUs)."""
    worker_group: tuple[WorkerGroup, ...] = ()
    """Kinds of workers (default: one kind, on any node)."""
    address: str | None = None
    on_bad_row: OnBadRow = "fail"
    on_damaged: OnDamaged = "label"
    find_duplicates: FindDuplicates = "etag"
    """How videos of equal content are found, which are labelled once: by size and ETag on S3, or by reading them."""
    publish: bool = True
    checkpoint_every_s: float = 120.0
    """Seconds between two checkpoints of an in-flight video."""
    keep_states: int | None = None
    """Number of states to keep of each video, from which it is tracked again after a correction (default: none)."""
    deadline_floor_s: float = 900.0
    """Seconds that every video may take, whatever its estimated cost."""
    grace_s: float = 60.0
    """Seconds that actors have for checkpoints when the run is stopped."""
    stop_at: float | None = None
    """Time at which the run stops as on SIGTERM, in seconds since the epoch."""
    budget_gpu_hours: float | None = None
    """GPU hours (actor hours, where actors have no GPU) after which the run stops as on SIGTERM."""
    sample: float | None = None
    """Label only this fraction of the videos, chosen by a hash of video_id, so the same ones every time."""
    shard: tuple[int, int] | None = None
    """(i, n): label only the i-th of n parts of the manifest, i from 1; shards may run at the same time."""
    max_relabel: float | None = None
    """Refuse to start when more than this fraction of the published labels would be replaced."""
    check_drift: bool = False
    """Track every object backward, too, and store how well the two passes agree in the column drift."""
    allow_uri: tuple[str, ...] = ()
    """URI prefixes that a manifest may name; all when empty."""
    calibration: str | None = None
    """Path or URI of a file that jobs.calibrate wrote: estimates time and orders videos by it."""
    price_per_hour: float | None = None
    """Price of a GPU (of an actor, where actors have no GPU) for an hour, for the estimate of a dry run."""
    storage: str | None = None
    """storage.toml: endpoints and credentials by URI prefix."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("device", Device),
            ("engine", EngineKind),
            ("on_drift", OnDrift),
            ("on_bad_row", OnBadRow),
            ("on_damaged", OnDamaged),
            ("find_duplicates", FindDuplicates),
        ):
            self._require(name, getattr(self, name) in get_args(choices), f"one of {', '.join(get_args(choices))}")
        self._require("actors", self.actors is None or self.actors >= 1, "1 or more")
        self._require("lanes", self.lanes is None or 1 <= self.lanes <= 256, "1 to 256")
        self._require("cpus_per_actor", self.cpus_per_actor > 0, "a number above 0")
        gpus = self.gpus_per_actor
        one = "0 to 1; an actor uses one GPU or, with a fraction, a part of one; --actors starts more of them"
        self._require("gpus_per_actor", gpus is None or 0 <= gpus <= 1, one)
        for name in ("actors", "gpus_per_actor") if self.worker_group else ():
            self._require(name, getattr(self, name) is None, "none beside --worker-group, which says it for each group")
        check_groups(self.worker_group)
        self._check_label_rate()
        self._require("checkpoint_every_s", self.checkpoint_every_s > 0, "seconds above 0")
        keep = self.keep_states
        self._require("keep_states", keep is None or 2 <= keep <= 1000, "2 to 1000 states a video")
        decided = self.detections is not None
        reusable = leaves_earlier_frames(self.parameters.for_detections() if decided else self.parameters)
        what = "none beside --direction backward or both or --retire-after, where corrections change earlier frames"
        self._require("keep_states", keep is None or reusable, what)
        self._require("deadline_floor_s", self.deadline_floor_s > 0, "seconds above 0")
        self._require("grace_s", self.grace_s >= 0, "0 seconds or more")
        self._require("budget_gpu_hours", self.budget_gpu_hours is None or self.budget_gpu_hours > 0, "above 0")
        self._require("sample", self.sample is None or 0 < self.sample <= 1, "above 0%, up to 100%")
        self._require("shard", self.shard is None or 1 <= self.shard[0] <= self.shard[1], "i/n with i from 1 to n")
        price = self.price_per_hour
        self._require("price_per_hour", price is None or 0 <= price < float("inf"), "0 or more")
        self._require("max_relabel", self.max_relabel is None or self.max_relabel >= 0, "0% or more")
        for name in ("manifest", "output", "model"):
            kind = type(getattr(self, name))
            if kind is not str:
                table = "; give label_corpus a table as manifest=read_manifest(table)" if name == "manifest" else ""
                raise UsageError(f"{name} has the type {kind.__name__}; allowed: a path or URI as str{table}")
            self._require(name, bool(getattr(self, name).strip()), "a path or URI")

    @property
    def label_rate(self) -> str | None:
        """The label rate of videos whose manifest gives none, such as `6fps` or `3f`; None for all frames."""
        if self.label_fps is not None:
            return f"{_number(self.label_fps)}fps"
        if self.every is None:
            return None
        distance, unit = float(self.every[:-1]), self.every[-1]
        rate = f"{int(distance)}f" if unit == "f" else f"{_number(1 / distance)}fps"
        return None if rate == "1f" else rate

    def _check_label_rate(self) -> None:
        rate = self.label_fps
        self._require("label_fps", rate is None or 0 < rate < float("inf"), "a number of frames a second above 0")
        self._require("label_fps", rate is None or self.every is None, "none beside --every, which also sets the rate")
        allowed = "a whole number of frames such as 3f, or seconds such as 0.5s, above 0; the unit is needed"
        distance = re.fullmatch(r"(\d+)f|(\d+(?:\.\d+)?)s", self.every or "1f")
        self._require("every", distance is not None and float(distance[1] or distance[2]) > 0, allowed)

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)!r}; allowed: {allowed}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as the record of a run holds it; no option is a secret."""
        return asdict(self)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


PARAMETER_NAMES = tuple(f.name for f in fields(Parameters))
"""Options that are part of the label key."""
READING_NAMES = tuple(f.name for f in fields(Reading))
"""Options that say how detections are read."""
ASSOCIATION_NAMES = tuple(f.name for f in fields(Association))
"""Options that are part of the label keys of videos with detections."""
