"""Frames of several videos in one batch of the detector, in one long-lived thread."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from pipeline.detection.detectors.detector import Detector, Found, PreparedFrame

Item = tuple[PreparedFrame, "Future[Found]"]


class DetectionBatcher:
    """Runs a detector on frames that any thread submits: those of one shape that wait together are one batch."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def submit(self, frame: PreparedFrame) -> "Future[Found]":
        """The detections of a frame, once its batch has run."""
        future: Future[Found] = Future()
        self._items.put((frame, future))
        return future

    def _run(self) -> None:
        while True:
            waiting = [self._items.get()]
            while len(waiting) < self._detector.frames_at_once and not self._items.empty():
                waiting.append(self._items.get())
            while waiting:
                shape = waiting[0][0].shape
                batch = [item for item in waiting if item[0].shape == shape]
                waiting = [item for item in waiting if item[0].shape != shape]
                self._detect(batch)

    def _detect(self, batch: Sequence[Item]) -> None:
        try:
            found = self._detector.detect([frame for frame, _ in batch])
        except BaseException as error:  # each video of the batch fails with it
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, found, strict=True):
            future.set_result(result)
