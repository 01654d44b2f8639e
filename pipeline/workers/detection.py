"""One video in, one committed part of detections out."""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from importlib.metadata import version as package_version
from typing import Any

import torch

from pipeline.detection.batching import DetectionBatcher
from pipeline.detection.detectors.detector import Found, PreparedFrame
from pipeline.detection.detectors.loading import load_detector
from pipeline.detection.part import DetectionRows, Look
from pipeline.detection.settings import DetectionParameters
from pipeline.detection.shots import check_installed, first_frames
from pipeline.errors import InterruptedLabelingError
from pipeline.logs import bound
from pipeline.manifest.fps import check_rate
from pipeline.storage import Store, Version, part_path
from pipeline.tracking.environment import environment
from pipeline.video import Frame, VideoReader, keep_freed_memory, prefetch
from pipeline.workers.metrics import Totals, WorkerMetrics
from pipeline.workers.opening import check_unchanged, open_task
from pipeline.workers.task import LabelerSettings, Outcome, Task


class DetectionWorker:
    """A loaded detector that looks at videos. Several threads may call `label` at once; their frames share batches.

    Raises:
        ModelError: The detector cannot be loaded, or its weights are not those of the plan.
    """

    warnings: Sequence[str] = ()

    def __init__(self, settings: LabelerSettings, parameters: DetectionParameters) -> None:
        torch.set_num_threads(settings.threads)
        keep_freed_memory()
        self.settings, self._parameters = settings, parameters
        if parameters.at == "shots":
            check_installed()
        self._detector = load_detector(
            settings.model,
            parameters,
            revision=settings.revision,
            device=settings.device,
            digest=settings.weights_digest,
        )
        self._batcher = DetectionBatcher(self._detector)
        self._store = Store(settings.output, storage=settings.storage)
        self._stopping = threading.Event()
        self._totals = Totals()
        self._metrics = WorkerMetrics(settings.run_id, output=str(self._store), lanes=settings.lanes)

    def progress(self) -> dict[str, float]:
        """Frames looked at and detections so far, under the names of labelling."""
        totals = self._totals.values()
        self._metrics.update(totals)
        return {"frames": 0.0, "masks": 0.0, **totals}

    def stop(self) -> None:
        """Return all videos in flight at their next look."""
        self._stopping.set()

    def label(self, task: Task) -> Outcome:
        """Detect in one video and commit its part; do nothing if the part exists.

        Raises:
            StorageError: The source or the output cannot be reached, or the source has changed since it was planned.
            VideoError: The video cannot be decoded.
            InterruptedLabelingError: `stop` was called.
        """
        started, video, path = time.perf_counter(), task.video, part_path(task.video.video_id, task.label_key)
        if self._store.exists(path):
            return Outcome(video_id=video.video_id, frames=0, masks=0, seconds=0.0, was_there=True)
        with (
            bound(run_id=self.settings.run_id, video_id=video.video_id),
            open_task(task, self.settings) as (reader, version),
        ):
            check_rate(video, reader)
            rows = DetectionRows(video.video_id, height=reader.info.height, width=reader.info.width)
            for look in self._looks(reader):
                rows.add(look)
            check_unchanged(video.video_uri, version, self.settings)
            written = self._store.commit_once(path, rows.to_parquet(self._facts(task, reader, version)))
        return Outcome(
            video_id=video.video_id,
            frames=rows.looks,
            masks=rows.detections,
            seconds=time.perf_counter() - started,
            was_there=not written,
            truncated=reader.damage.truncated,
            damaged=reader.damage.any and not reader.damage.truncated,
        )

    def _looks(self, reader: VideoReader) -> Iterator[Look]:
        """Detections of the frames that are looked at; a thread decodes ahead, two batches are in flight."""
        waiting: deque[tuple[float, Future[Found]]] = deque()
        depth = 2 * self._detector.frames_at_once
        shots = self._parameters.at == "shots"
        looks = first_frames(reader) if shots else reader.looks(self._parameters.step_s)
        frames = self._totals.timed(looks, "decode_s")
        with prefetch(frames, self._prepared, depth=depth) as ready:
            for time_s, frame in ready:
                if self._stopping.is_set():
                    raise InterruptedLabelingError(f"{reader.name}: the worker was stopped")
                waiting.append((time_s, self._batcher.submit(frame)))
                if len(waiting) > depth:
                    yield self._look(*waiting.popleft())
        while waiting:
            yield self._look(*waiting.popleft())

    def _prepared(self, frame: Frame) -> tuple[float, PreparedFrame]:
        return frame.time_s, self._detector.prepare(frame.rgb)

    def _look(self, time_s: float, future: "Future[Found]") -> Look:
        found = future.result()
        self._totals.add("frames", 1.0)
        self._totals.add("masks", float(len(found)))
        return Look(
            time_s=time_s,
            boxes=found.boxes,
            scores=found.scores,
            categories=found.categories,
            masks=found.masks,
        )

    def _facts(self, task: Task, reader: VideoReader, version: Version) -> dict[str, Any]:
        settings, info = self.settings, reader.info
        return {
            "detection_key": task.label_key,
            "uri": task.video.video_uri,
            "version": version.token(),
            "start_s": task.video.start_s,
            "end_s": task.video.end_s,
            "height": info.height,
            "width": info.width,
            "model": settings.model,
            "weights_digest": settings.weights_digest,
            "parameters": self._parameters.to_json(),
            "run_id": settings.run_id,
            "worker": socket.gethostname(),
            "attempts": task.attempt,
            "truncated": reader.damage.truncated,
            "package_version": package_version("sam2-corpus"),
            **environment(self._detector.device),
        }
