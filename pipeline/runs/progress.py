"""Progress of a run, and its report at the end."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pipeline.errors import StorageError
from pipeline.labels.failures import Failure
from pipeline.runs.summary import report_lines
from pipeline.storage import Store
from pipeline.storage.paths import progress_path
from pipeline.tables import Published
from pipeline.views.card import card

log = logging.getLogger(__name__)

FLIGHTS_SHOWN = 1000
"""Largest number of in-flight videos that progress.json lists."""

StoppedBy = Literal["signal", "stop-at", "budget", "lease"]

Phase = Literal["starting Ray", "loading the model", "labelling", "publishing the labels"]


@dataclass(kw_only=True)
class Progress:
    """A running run; `progress.json` holds it. Times are seconds since the epoch."""

    run_id: str
    videos: int
    started: float
    now: float
    state: Literal["running", "stopping", "ended"] = "running"
    phase: Phase = "starting Ray"
    done: int = 0
    truncated: int = 0
    """Labelled videos whose file ends too early."""
    damaged: int = 0
    """Other labelled videos with missing or concealed frames."""
    failed: dict[str, int] = field(default_factory=dict)
    """Pending videos that failed in this run, by failure class."""
    unreadable: int = 0
    """Videos whose source cannot be found: they failed in this run, too, but were not pending."""
    quarantined: int = 0
    """Videos that stay in quarantine since earlier runs."""
    in_flight: int = 0
    """Number of in-flight videos."""
    flights: list[dict[str, Any]] = field(default_factory=list)
    """The oldest of them when progress.json was last written: video_id, worker, started."""
    workers: int = 0
    deaths: dict[str, int] = field(default_factory=dict)
    """Workers that died or could not start, by cause."""
    warnings: dict[str, int] = field(default_factory=dict)
    """What the user must know of how workers label, with the number of workers."""
    frames: float = 0
    masks: float = 0
    frames_expected: float = 0
    """Frames of all pending videos: an estimate, corrected by the videos that are finished."""
    first_frame: float | None = None
    """When the first frame was labelled; rates and the remaining time leave out what was before."""
    labelled_until: float | None = None
    """When labelling ended; publication comes after it."""
    actor_hours: float = 0
    gpu_hours: float = 0

    @property
    def labelling_s(self) -> float:
        """Seconds of labelling so far, from the first frame on."""
        return 0.0 if self.first_frame is None else max(0.0, (self.labelled_until or self.now) - self.first_frame)

    @property
    def rate(self) -> float | None:
        """Labelled frames per second since the first frame; None before it."""
        return self.frames / self.labelling_s if self.labelling_s else None

    @property
    def share(self) -> float:
        """Labelled share of the expected frames, 0 to 1."""
        return min(self.frames / self.frames_expected, 1.0) if self.frames_expected else 0.0

    @property
    def failed_videos(self) -> int:
        """Videos that failed in this run."""
        return sum(self.failed.values()) + self.unreadable

    @property
    def warning_lines(self) -> list[str]:
        """The warnings of workers, one line each."""
        return [f"warning of {workers} workers: {warning}" for warning, workers in self.warnings.items()]

    @property
    def eta_s(self) -> float | None:
        """Seconds until all expected frames are labelled, at the rate so far; None before the first frame."""
        return max(self.frames_expected - self.frames, 0.0) / self.rate if self.rate else None

    def to_json(self) -> bytes:
        """The content of progress.json."""
        return json.dumps({**asdict(self), "rate": self.rate, "eta_s": self.eta_s}).encode()


def show(progress: Progress, store: Store, watch: Callable[[Progress], None]) -> None:
    """Call `watch` with the progress and write progress.json.

    Progress is best effort: a storage that cannot be written fails where labels are committed.
    """
    watch(progress)
    try:
        store.put(progress_path(progress.run_id), progress.to_json())
    except StorageError as error:
        log.warning("cannot write the progress: %s", error)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Result of a run."""

    run_id: str
    output: str
    planned: dict[str, int]
    """Videos by state when the run began: labelled, pending, quarantined, unreadable."""
    reasons: dict[str, int]
    """Why the pending ones were pending."""
    labelled: int
    failures: list[Failure]
    """Failures of this run, and of earlier runs that are still in quarantine."""
    bad_rows: list[str]
    left: int
    """Pending videos that this run did not reach."""
    frames: int
    masks: int
    seconds: float
    """The whole run, publication included."""
    actor_hours: float
    gpu_hours: float
    deaths: dict[str, int]
    """Workers that died or could not start, by cause."""
    stopped_by: StoppedBy | None
    published: Published | None
    labelling_s: float = 0.0
    """Seconds from the first labelled frame to the last."""
    truncated: int = 0
    """Videos of this run whose file was truncated; labelled up to its end."""
    damaged: int = 0
    """Other videos of this run with missing or concealed frames."""
    returns: dict[str, int] = field(default_factory=dict)
    """Videos whose published labels were replaced by older ones, by the run that made the older ones."""
    notes: list[str] = field(default_factory=list)
    """The plan's notes on corrections and returning labels, and the warnings of workers, one line each."""

    @property
    def failed(self) -> int:
        """Videos that failed in this run; the other failures are those of earlier runs."""
        return sum(failure.run_id == self.run_id for failure in self.failures)

    @property
    def exit_code(self) -> int:
        """0 all labelled; 3 finished with failures or bad rows; 4 stopped before the end."""
        if self.left:
            return 4
        return 3 if self.failures or self.bad_rows else 0

    def _repr_html_(self) -> str:
        first, *rest = report_lines(self)
        return card(first, rest)
