"""A video's frames on their way to the model: decoded and scaled in a thread that runs ahead of it."""

from collections.abc import Iterator, Mapping, Sequence

import torch

from pipeline.tracking.stepping import LoadedModel
from pipeline.video import Frame, VideoReader, prefetch
from pipeline.workers.metrics import Totals

FRAMES_AHEAD = 4
"""Decoded frames that wait for the model."""


class ModelFrames:
    """A video's frames as the model takes them, decoded and scaled in a thread that runs ahead."""

    def __init__(self, reader: VideoReader, model: LoadedModel, clocks: Sequence[Totals]) -> None:
        self._reader, self._model, self._clocks = reader, model, clocks
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
        with prefetch(frames, self._take, depth=FRAMES_AHEAD) as taken:
            ready: Iterator[tuple[int, torch.Tensor]] = taken
            for clock in self._clocks:
                ready = clock.timed(ready, "starved_s")
            yield from ready

    def _take(self, frame: Frame) -> tuple[int, torch.Tensor]:
        self.times[frame.index] = frame.time_s
        return frame.index, self._model.preprocess(frame.rgb)
