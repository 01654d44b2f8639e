"""A video's frames as the model needs them: decoded and resized in a thread that runs ahead of the model."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import torch

from pipeline.tracking.stepping import LoadedModel
from pipeline.video import Frame, VideoReader, prefetch
from pipeline.workers.chosen import ChosenFrames
from pipeline.workers.metrics import Totals

MIN_FRAMES_AHEAD = 4
"""Minimum number of decoded frames in the queue before the model."""


class ModelFrames:
    """A `FrameSource` of a video file. Its queue holds two batches of the encoder: one is filled while one is taken.

    Where only some frames are labelled, its indices are their positions, and the other frames are not there.
    """

    def __init__(
        self,
        reader: VideoReader,
        model: LoadedModel,
        clocks: Sequence[Totals],
        *,
        frames_at_once: int,
        chosen: ChosenFrames | None = None,
    ) -> None:
        """`frames_at_once` is the number of frames that the encoder takes in one batch; `chosen`: None for all."""
        self._reader, self._model, self._clocks, self._chosen = reader, model, clocks, chosen
        self._depth = max(MIN_FRAMES_AHEAD, 2 * frames_at_once)
        self.height, self.width = reader.info.height, reader.info.width
        self.times: dict[int, float] = {}
        """Presentation time, in seconds, of every frame read so far."""
        self._frame_of: dict[int, int] = {}

    def forward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        if self._chosen is None:
            return self._ahead(self._reader.forward(start))
        frame = self._chosen.frame(start)
        frames = iter(()) if frame is None else self._reader.forward(frame, grid=self._chosen.grid)
        return self._ahead(self._placed(frames, count(start)))

    def backward(self, start: int) -> Iterator[tuple[int, torch.Tensor]]:
        if self._chosen is None:
            return self._ahead(self._reader.backward(start))
        frame = self._chosen.frame(start)
        frames = iter(()) if frame is None else self._reader.backward(frame, grid=self._chosen.grid)
        return self._ahead(self._placed(frames, count(start, -1)))

    def at(self, indices: Sequence[int]) -> Mapping[int, torch.Tensor]:
        if self._chosen is None:
            return dict(self._take(frame) for frame in self._reader.at(indices).values())
        places = {frame: place for place in indices if (frame := self._chosen.frame(place)) is not None}
        found = self._reader.at(places)
        return dict(self._take(each) for each in self._placed(found.values(), (places[index] for index in found)))

    def frame_of(self, index: int) -> int:
        """The frame of the video at an index of this source; it has been read."""
        return index if self._chosen is None else self._frame_of[index]

    def _placed(self, frames: Iterable[Frame], places: Iterable[int]) -> Iterator[Frame]:
        try:
            for place, frame in zip(places, frames, strict=False):
                self._frame_of[place] = frame.index
                yield replace(frame, index=place)
        finally:
            if isinstance(frames, Generator):
                frames.close()  # ends its decoder

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
