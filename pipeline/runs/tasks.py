"""Makes the tasks of workers from the rows of a plan."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.labels.failures import RETRY_SOLO, Attempt
from pipeline.manifest import Manifest, Video
from pipeline.runs.prepare import Prepared
from pipeline.storage.paths import STATES
from pipeline.workers.checkpoint import unfinished
from pipeline.workers.task import Task

VIDEOS_AHEAD = 64
"""Rows of the manifest that become Python objects at once."""


class Tasks:
    """Makes the tasks of pending videos."""

    def __init__(self, prepared: Prepared, source: Callable[[int], int | None]) -> None:
        """
        Args:
            source: the video labelled in this run that a video is a duplicate of.
        """
        table = prepared.plan.table
        self._ids, self._states = table["video_id"], table["state"]
        self._copies, self._earlier, self._source = prepared.plan.copies, prepared.plan.earlier, source
        self._keys, self._versions, self._digests = (table[name] for name in ("label_key", "version", "prompts_digest"))
        self._detections, self._parameters = table["detections_digest"], table["parameters"]
        self._for_detections = prepared.config.parameters.for_detections()
        self._for_detections_json = self._for_detections.to_json()
        self._rates, self._earlier_keys = table["label_rate"], table["earlier_key"]
        self._has_states = prepared.store.is_folder(STATES)
        self._cuts = prepared.cuts
        self._upcoming = _Upcoming(prepared.manifest, prepared.plan.order)
        self._begun = unfinished(prepared.store)
        """Videos that may have a checkpoint."""

    def make(self, index: int, attempts: Sequence[Attempt]) -> Task:
        """The task of the video in this row of the plan; `attempts` failed before."""
        video, key = self._upcoming.take(index), self._keys[index].as_py()
        resume = (video.video_id, key) in self._begun
        self._begun.add((video.video_id, key))
        return Task(
            video=video,
            label_key=key,
            resume=resume,
            version=self._versions[index].as_py(),
            prompts_digest=self._digests[index].as_py(),
            detections_digest=self._detections[index].as_py(),
            parameters=self._for_detections if self._parameters[index].as_py() == self._for_detections_json else None,
            cuts=self._cuts.get(video.video_id, ()),
            label_rate=self._rates[index].as_py(),
            earlier_key=self._earlier_keys[index].as_py() if self._has_states else None,
            attempt=len(attempts) + 1,
            isolate=any(attempt.cause in RETRY_SOLO for attempt in attempts),
            copy_of=self._copied(index),
        )

    def _copied(self, index: int) -> tuple[str, str] | None:
        """Id and label key of the labelled video that this one is a duplicate of."""
        source = self._source(index)
        if source is None and (planned := self._copies.get(index)) is not None:
            source = planned if self._states[planned].as_py() == "labelled" else None
        return self._earlier.get(index) if source is None else (self._ids[source].as_py(), self._keys[source].as_py())


class _Upcoming:
    """Videos of a manifest as objects, made VIDEOS_AHEAD at a time in the order in which they are assigned."""

    def __init__(self, manifest: Manifest, order: npt.NDArray[np.int64]) -> None:
        self._manifest, self._order, self._made = manifest, order, 0
        self._ready: dict[int, Video] = {}

    def take(self, index: int) -> Video:
        """The video in this row; made again for a retried video."""
        if not self._ready:
            rows = self._order[self._made : self._made + VIDEOS_AHEAD]
            self._made += len(rows)
            self._ready = dict(zip(rows.tolist(), self._manifest.videos(rows), strict=True))
        return self._ready.pop(index, None) or self._manifest.video(index)
