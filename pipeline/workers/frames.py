"""A video's frames as the model needs them: decoded and resized in a thread that runs ahead of the model."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from pipeline.tracking.stepping import LoadedModel
from pipeline.video import Frame, VideoReader, prefetch
from pipeline.workers.metrics import Totals

MIN_FRAMES_AHEAD = 4
"""Minimum number of decoded frames in the queue before the model."""


class ModelFrames:
    """A `FrameSource` of a video file. Its queue holds two batches of the encoder: one is filled while one is taken."""

    def __init__(
        self, reader: VideoReader, model: LoadedModel, clocks: Sequence[Totals], *, frames_at_once: int
    ) -> None:
        """`frames_at_once` is the number of frames that the encoder takes in one batch."""
        self._reader, self._model, self._clocks = reader, model, clocks
        self._depth = max(MIN_FRAMES_AHEAD, 2 * frames_at_once)
        self.height, self.width = reader.info.height, reader.info.width
        self.times: dict[int, float] = {}
        """Presentation time, in seconds, of every frame read so far."""

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return self._ahead(self._reader.forward(start))

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        return self._ahead(self._reader.backward(start))

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        return dict(self._take(frame) for frame in self._reader.at(indices).values())

    def _ahead(self, frames: Iterator[Frame]) -> Iterator[tuple[int, torch.Tensor]]:
        for clock in self._clocks:
            frames = clock.timed(frames, "decode_s")
        with prefetch(frames, self._take, depth=self._depth) as taken:
            ready: Iterator[tuple[int, torch.Tensor]] = taken
            for clock in self._clocks:
                ready = clock.timed(ready, "starved_s")
            yield from ready

    def _take(self, frame: Frame) -> tuple[int, torch.Tensor]:
        self.times[frame.index] = frame.time_s
        return frame.index, self._model.resize(frame.rgb)
