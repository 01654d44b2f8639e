"""A video file through the interface of `pipeline.video`: frames in displayed RGB, forward, backward and at random."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Self

from av.video.frame import VideoFrame

from pipeline.errors import AfterEndError, PromptError, VideoError
from pipeline.video.display import RgbConverter
from pipeline.video.grid import FrameGrid
from pipeline.video.info import Damage, Frame, OnDamaged, Segment, VideoInfo, VideoLimits
from pipeline.video.input_file import InputFile
from pipeline.video.looks import NO_INDEX, on_screen
from pipeline.video.passes import Passes


class VideoFile:
    """See `pipeline.video` for the contract. Passes may be interleaved, also by several threads."""

    def __init__(self, file: InputFile, *, segment: Segment, limits: VideoLimits, on_damaged: OnDamaged) -> None:
        self.name = file.name
        self._file, self._limits = file, limits
        self._passes = Passes(file, segment=segment, limits=limits, on_damaged=on_damaged)
        self._timeline = self._passes.timeline
        self._facts = self._passes.facts
        self._lock = threading.RLock()  # held for each step of each pass, because passes share the timeline

    @property
    def info(self) -> VideoInfo:
        measured = self._timeline.rate() if self._timeline.complete else None
        return self._facts if measured is None else replace(self._facts, fps=measured[0], variable_rate=measured[1])

    @property
    def damage(self) -> Damage:
        return self._passes.damage

    def forward(self, start: int = 0, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        """Frames `start`, `start` + 1, ... to the end of the segment; others than those of the grid are not converted.

        They are decoded, because later frames may refer to them.
        """
        convert = self._converter()
        with self._decoding(_index(start)) as frames:
            for index, frame in frames:
                if grid is None or grid.has(index, self._timeline.time):
                    yield self._shown(index, frame, convert)
        if start >= len(self._timeline):
            raise self._beyond(start)

    def backward(self, start: int, *, grid: FrameGrid | None = None) -> Iterator[Frame]:
        """Frames `start`, `start` - 1, ... 0: runs of frames are decoded forward and given in reverse."""
        with self._lock:
            known = self._passes.learn(_index(start) + 1)
        if not known:
            raise self._beyond(start)
        convert, high = self._converter(), start
        while high >= 0:
            kept = self._run_before(high)
            while kept:
                frame = kept.pop()
                if grid is None or grid.has(high, self._timeline.time):
                    yield self._shown(high, frame, convert)
                high -= 1

    def at(self, indices: Iterable[int]) -> dict[int, Frame]:
        """The frames with these indices; frames between them are skipped where a key frame allows it."""
        wanted = sorted({_index(index) for index in indices})
        convert = self._converter()
        found: dict[int, Frame] = {}
        if wanted and wanted[0] == 0:
            found[wanted.pop(0)] = self._shown(0, self._passes.first, convert)
        while wanted:
            with self._decoding(wanted[0]) as frames:
                for index, frame in frames:
                    if index == wanted[0]:
                        found[wanted.pop(0)] = self._shown(index, frame, convert)
                    if not wanted or (self._timeline.key_at_or_before(wanted[0]) or 0) > index + 1:
                        break
                else:
                    raise self._beyond(wanted[0])
        return found

    def looks(self, step_s: float | None) -> Iterator[Frame]:
        """One frame per step, or the key frames, see `VideoReader.looks`."""
        convert = self._converter()
        if step_s is None:
            with closing(self._passes.key_frames()) as keys:
                for stamp, frame in keys:
                    shown = self._shown(0, frame, convert)
                    yield Frame(NO_INDEX, self._timeline.seconds(stamp), shown.rgb)
            return
        with self._decoding(0) as frames:
            for index, frame in on_screen(frames, self._timeline.time, step_s, self._passes.tolerance_s):
                yield self._shown(index, frame, convert)

    def times(self, count: int) -> list[float]:
        """Times of the first `count` frames, fewer where the video has fewer."""
        with self._lock:
            self._passes.learn(count)
        return [self._timeline.time(index) for index in range(min(count, len(self._timeline)))]

    def index_at(self, times_s: Sequence[float]) -> list[int]:
        """The frame on screen at each time, counted from the file's first frame."""
        indices, tolerance_s = [], self._passes.tolerance_s
        for time_s in times_s:
            self._learn_until(time_s + tolerance_s)
            index = self._timeline.on_screen(time_s, tolerance_s)
            if index is None or not time_s >= self._timeline.time(0) - tolerance_s:
                raise (AfterEndError if index is None else PromptError)(
                    f"{self.name}: no frame is on screen at {time_s:g} s; allowed are "
                    f"{self._timeline.time(0):g} to {self._timeline.time(len(self._timeline) - 1):g} s"
                )
            indices.append(index)
        return indices

    def close(self) -> None:
        self._passes.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _converter(self) -> RgbConverter:
        return RgbConverter(self._passes.orientation, self._passes.size)

    def _shown(self, index: int, frame: VideoFrame, convert: RgbConverter) -> Frame:
        try:
            rgb = convert(frame)
        except MemoryError:
            raise
        except Exception as error:  # a broken header may name colours that do not exist
            raise VideoError(
                f"{self.name}: frame {index} cannot be converted to RGB (pixels {frame.format.name}, color space "
                f"{frame.colorspace}, transfer {frame.color_trc}, primaries {frame.color_primaries}): {error}"
            ) from error
        return Frame(index, self._timeline.time(index), rgb)

    @contextmanager
    def _decoding(self, start: int) -> Iterator[Iterator[tuple[int, VideoFrame]]]:
        frames = self._passes.frames(start)

        def steps() -> Iterator[tuple[int, VideoFrame]]:
            while True:
                with self._lock:
                    step = next(frames, None)
                if step is None:
                    return
                yield step

        try:
            yield steps()
        finally:
            with self._lock:
                frames.close()

    def _run_before(self, high: int) -> deque[VideoFrame]:
        """Decoded frames that end with `high`, as many as `backward_bytes` holds, from a key frame where one fits."""
        budget = self._limits.backward_bytes
        low = max(0, high + 1 - max(1, budget // _bytes(self._passes.first)))
        keys = self._timeline.keys_between(low, high)
        begin = 0 if low == 0 else keys[0] if keys else self._timeline.key_at_or_before(high) or 0
        kept: deque[VideoFrame] = deque()
        size = 0
        with self._decoding(begin) as frames:
            for index, frame in frames:
                kept.append(frame)
                size += _bytes(frame)
                while size > budget and len(kept) > 1:
                    size -= _bytes(kept.popleft())
                if index == high:
                    break
        return kept

    def _learn_until(self, time_s: float) -> None:
        timeline = self._timeline
        if timeline.complete or timeline.time(len(timeline) - 1) > time_s:
            return
        with self._decoding(len(timeline)) as frames:
            for index, _ in frames:
                if timeline.time(index) > time_s:
                    break

    def _beyond(self, index: int) -> PromptError:
        count = len(self._timeline)
        return PromptError(f"{self.name}: frame {index} is beyond the end; the video has frames 0 to {count - 1}")


def _index(value: int) -> int:
    if value < 0:
        raise ValueError(f"frame index {value} is negative")
    return value


def _bytes(frame: VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)
