"""A worker's process: a Ray actor around a labeler. A video that fails comes back as a value, with its cause."""

import pickle
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray

from pipeline import logs

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""What the process is started with; glibc reads it before anything else runs. The rest is `keep_freed_memory`'s.

Different threads decode, track and encode, and each video has its own. With an arena for each of them, memory that one
frees is not there for the next one but given back to the kernel and faulted in again, up to 3,000 pages a frame.
"""


class Labels(Protocol):
    """What a worker does with one video. `Labeler` is the real one; it is built inside the actor."""

    def label(self, task: Any) -> Any:
        """Label one video; raises when it cannot."""

    def progress(self) -> dict[str, float]:
        """Running totals of this worker, for the progress display."""

    def stop(self) -> None:
        """Interrupt what is in hand: `label` then raises an error of failure class "interrupted"."""


@dataclass(frozen=True)
class Failure:
    """A video failed in a worker's hands."""

    cause: str
    message: str
    traceback: str


class Actor:
    """A worker's process. `start` builds the labeler, so that its failure comes back as an ordinary exception."""

    def start(self, build: Callable[[], Labels], log_ids: Mapping[str, str]) -> str:
        """Load the model; returns the node's id."""
        logs.setup_from_environment(**log_ids)
        self._labeler = build()
        return str(ray.get_runtime_context().get_node_id())

    def label(self, task: bytes) -> bytes:
        """Label one video, a pickled task; gives the pickle of what came of it and of this worker's running totals.

        What goes wrong with a video is a `Failure` there, not raised. Plain pickles, because Ray's own way of sending
        objects costs the driver a third of a millisecond more for every video.
        """
        try:
            return self._answer(self._labeler.label(pickle.loads(task)))
        except Exception as error:
            return self._answer(Failure(cause_of(error), f"{type(error).__name__}: {error}", traceback.format_exc()))

    def _answer(self, result: Any) -> bytes:
        return pickle.dumps((result, self._labeler.progress()))

    def progress(self) -> dict[str, float]:
        """Running totals of this worker."""
        return self._labeler.progress()

    def stop(self) -> None:
        """Checkpoint the videos in hand and give them back."""
        self._labeler.stop()


def cause_of(error: Exception) -> str:
    """What a failure is charged as: "oom", "cuda", the error's own class, or "exception". Does not import torch."""
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom"
    if isinstance(error, (RuntimeError, OSError)) and ("an't allocate memory" in text or "annot allocate" in text):
        return "oom"  # torch's allocator of host memory, and the kernel's ENOMEM
    if isinstance(error, RuntimeError) and "CUDA error" in text:
        return "cuda"
    return str(getattr(error, "failure_class", "exception"))
