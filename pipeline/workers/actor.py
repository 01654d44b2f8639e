"""A worker's process: a Ray actor around a labeler. A failed video is returned as a value, with its cause."""

import pickle
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from pipeline import logs
from pipeline.storage.contact import expect_outages
from pipeline.workers.causes import cause_of


class LabelerProtocol(Protocol):
    """What a worker does with videos. `Labeler` implements it; it is built inside the actor."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user must know of how this worker labels."""

    def label(self, task: Any) -> Any:
        """Label one video; raises if that fails."""

    def progress(self) -> dict[str, float]:
        """Running totals of this worker, for the progress display."""

    def stop(self) -> None:
        """Interrupt in-flight videos: their `label` then raises an error of failure class "interrupted"."""


@dataclass(frozen=True)
class Started:
    """What an actor returns once its labeler is built."""

    node_id: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class FailedVideo:
    """What an actor returns for a video that failed."""

    cause: str
    message: str
    traceback: str


class Actor:
    """A worker's process. `start` builds the labeler, so that an error there is an ordinary exception of a task."""

    def start(self, build: Callable[[], LabelerProtocol], log_ids: Mapping[str, str]) -> Started:
        """Load the model."""
        logs.setup_from_environment(**log_ids)
        expect_outages()  # the driver has reached the storage
        self._labeler = build()
        return Started(str(ray.get_runtime_context().get_node_id()), tuple(self._labeler.warnings))

    def label(self, task: bytes) -> bytes:
        """Label one video, a pickled task; returns a pickle of (result, running totals).

        The result is a `FailedVideo` if labelling raised. Plain pickles, because Ray's own serialization costs the
        driver a third of a millisecond more per video.
        """
        try:
            return self._answer(self._labeler.label(pickle.loads(task)))
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            return self._answer(FailedVideo(cause_of(error), message, traceback.format_exc()))

    def _answer(self, result: Any) -> bytes:
        return pickle.dumps((result, self._labeler.progress()))

    def progress(self) -> dict[str, float]:
        """Running totals of this worker."""
        return self._labeler.progress()

    def stop(self) -> None:
        """Checkpoint the in-flight videos and return them; a worker that is still loading its model has none."""
        if hasattr(self, "_labeler"):
            self._labeler.stop()
