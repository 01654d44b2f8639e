"""Decoding passes over one segment of a file; every pass gives the same frames as the first."""

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain

import av.error
from av.video.frame import VideoFrame

from pipeline.video.container import VideoDecoder
from pipeline.video.display import orientation_of
from pipeline.video.facts import facts_of
from pipeline.video.failures import DamagedError, NoFramesError, TooLargeError, pyav_errors, reason
from pipeline.video.info import TOLERANCE_S, Damage, OnDamaged, Segment, VideoLimits
from pipeline.video.input_file import InputFile
from pipeline.video.outline import ends_early
from pipeline.video.timeline import Clock, Timeline, timestamp

_log = logging.getLogger(__name__)

_BACK_S = (0.0, 1.0, 4.0, 16.0, 64.0)
Stamped = tuple[int, VideoFrame]
Run = Generator[Stamped, None, None]


class Passes:
    """Decodes from the segment's beginning or from a known key frame, and verifies that frames equal the first pass's.

    A key frame after which decoding gives other frames (open GOPs, intra refresh, damage whose concealment depends on
    earlier frames) is not used again; the next earlier one is used instead, finally the beginning.
    """

    def __init__(self, file: InputFile, *, segment: Segment, limits: VideoLimits, on_damaged: OnDamaged) -> None:
        self._file, self._limits, self._on_damaged = file, limits, on_damaged
        self._segment = segment
        self._damaged: set[int] = set()
        self._concealed = self._resized = 0
        self._truncated = False
        self._idle: VideoDecoder | None = None
        self._closed = False
        decoder = VideoDecoder(file, limits)
        try:
            frames = decoder.frames()
            first = next(frames, None)
            if first is None:
                raise NoFramesError(f"{file.name}: no frame can be decoded{_because(decoder)}")
            with pyav_errors(file.name, "its facts cannot be read"):
                self.orientation = orientation_of(first)
                self.facts = facts_of(decoder, first)
                rate = decoder.stream.guessed_rate or decoder.stream.average_rate or 25
            self._by_dts = decoder.by_dts
            self._time_base = decoder.time_base
            self._step = max(1, round(1 / (rate * self._time_base)))
            self.tolerance_s = min(TOLERANCE_S, float(self._step * self._time_base) / 4)
            self._zero = timestamp(first, self._by_dts) or 0
            self.timeline = Timeline(time_base=self._time_base, zero=self._zero, step=self._step, by_dts=self._by_dts)
            self.size = (first.width, first.height)
            run = self._from_start(decoder, chain([first], frames))
            head = next(run, None)
        except BaseException:
            decoder.close()
            raise
        if head is None:
            self._drop_idle()
            raise NoFramesError(f"{file.name}: no frame {segment}")
        self.first = head[1]
        self._ahead: tuple[Stamped, Run] | None = (head, run)
        self._learn(*head)

    @property
    def damage(self) -> Damage:
        return Damage(
            decoded_frames=len(self.timeline),
            damaged_packets=len(self._damaged),
            concealed_frames=self._concealed,
            resized_frames=self._resized,
            repaired_times=self.timeline.repaired,
            truncated=self._truncated,
            complete=self.timeline.complete,
        )

    def frames(self, start: int) -> Run:
        """Frames from index `start` on, decoded from the nearest trusted key frame."""
        timeline = self.timeline
        position = start
        while not (timeline.complete and position >= len(timeline)):
            key = timeline.key_at_or_before(min(position, len(timeline) - 1))
            index = key or 0
            with closing(self._beginning() if key is None else self._from_key(key)) as run:
                for stamp, frame in run:
                    if index >= len(timeline):
                        self._learn(stamp, frame)
                    elif key is not None and not timeline.matches(index, stamp, frame):
                        break
                    if index >= position:
                        position = index + 1
                        yield index, frame
                    index += 1
                    if timeline.complete and index >= len(timeline):
                        return
                else:
                    if key is None or index >= len(timeline):
                        timeline.complete = True
                        self._refuse_damage()
                        return
            assert key is not None
            _log.info("%s: decoding from key frame %d does not repeat the first pass; not used", self._file.name, key)
            timeline.distrust(key)

    def key_frames(self) -> Run:
        """The segment's key frames with their timestamps; nothing else is decoded, and no damage is counted."""
        decoder = VideoDecoder(self._file, self._limits, key_frames_only=True)
        low, high = self._segment.bounds(self.tolerance_s)
        clock = Clock(step=self._step, zero=self._zero, by_dts=self._by_dts)
        try:
            for frame in decoder.frames():
                stamp = clock.stamp(frame)
                time = self.timeline.seconds(stamp)
                if time >= high:
                    return
                if time >= low:
                    yield stamp, frame
        finally:
            decoder.close()

    def learn(self, count: int) -> bool:
        """Decode until the timeline has `count` frames; returns False where there are fewer."""
        timeline = self.timeline
        if len(timeline) < count and not timeline.complete:
            with closing(self.frames(len(timeline))) as frames:
                for index, _ in frames:
                    if index + 1 >= count:
                        break
        return len(timeline) >= count

    def close(self) -> None:
        self._closed = True
        if self._ahead is not None:
            run = self._ahead[1]
            self._ahead = None
            run.close()
        self._drop_idle()

    def _learn(self, stamp: int, frame: VideoFrame) -> None:
        if len(self.timeline) >= self._limits.max_frames:
            raise TooLargeError(f"{self._file.name}: more than {self._limits.max_frames} frames")
        with pyav_errors(self._file.name, f"frame {len(self.timeline)} cannot be read"):
            self.timeline.append(stamp, frame)
        self._concealed += bool(frame.is_corrupt)
        self._resized += (frame.width, frame.height) != self.size
        self._refuse_damage()

    def _refuse_damage(self) -> None:
        if self._on_damaged == "fail" and self.damage.any:
            raise DamagedError(f"{self._file.name}: damaged, and on_damaged is fail: {self.damage}")

    def _beginning(self) -> Run:
        if self._ahead is not None:
            head, run = self._ahead
            self._ahead = None
        else:
            self._drop_idle()  # its frame pools may hold as much memory as a backward run
            decoder = VideoDecoder(self._file, self._limits)
            run = self._from_start(decoder, decoder.frames())
            first = next(run, None)
            if first is None:
                return
            head = first
        with closing(run):
            yield head
            yield from run

    def _from_start(self, decoder: VideoDecoder, frames: Iterator[VideoFrame]) -> Run:
        """Frames from the segment's first on; with start_s, from a key frame before it if the format can seek."""
        start = self._segment.start_s or 0.0
        try:
            if start > self.tolerance_s:
                found = self._sought(decoder, start)
                if found is None:
                    decoder.close()
                    decoder = VideoDecoder(self._file, self._limits)
                frames = decoder.frames() if found is None else found
            self._damaged |= decoder.damaged
            decoder.damaged = self._damaged
            yield from self._cut(decoder, frames, Clock(step=self._step, zero=self._zero, by_dts=self._by_dts))
        finally:
            self._release(decoder)

    def _sought(self, decoder: VideoDecoder, start: float) -> Iterator[VideoFrame] | None:
        """Frames from a key frame at or before `start`; None if seeking does not find one."""
        for back in _BACK_S:
            if start - back <= 0:
                return None
            decoder.damaged = set()
            try:
                decoder.seek(self._zero + int((start - back) / self._time_base))
            except (av.error.FFmpegError, OverflowError):  # the second where start_s is infinite
                return None
            frames = decoder.frames(from_key=True)
            first = next(frames, None)
            stamp = None if first is None else timestamp(first, self._by_dts)
            if first is not None and stamp is not None and self.timeline.seconds(stamp) < start + self.tolerance_s:
                return chain([first], frames)
        return None

    def _from_key(self, key: int) -> Run:
        """Frames from the key frame `key` on; none if seeking does not find it."""
        decoder = self._idle or VideoDecoder(self._file, self._limits)
        self._idle = None
        try:
            decoder.damaged = set()  # the first pass has counted the damage of frames that are in the timeline
            frames = self._sought_key(decoder, self.timeline.stamp(key))
            if frames is not None:
                clock = Clock(step=self._step, zero=self._zero, by_dts=self._by_dts)
                for index, stamped in enumerate(self._cut(decoder, frames, clock), start=key):
                    yield stamped
                    if index + 1 == len(self.timeline):
                        decoder.damaged = self._damaged
        finally:
            self._release(decoder)

    def _sought_key(self, decoder: VideoDecoder, wanted: int) -> Iterator[VideoFrame] | None:
        for back in (0.0, 1.0):
            try:
                decoder.seek(wanted - int(back / self._time_base))
            except av.error.FFmpegError:
                self.timeline.distrust_all_but(wanted)
                return None
            frames = decoder.frames(from_key=True)
            for frame in frames:
                stamp = timestamp(frame, self._by_dts)
                if stamp == wanted:
                    return chain([frame], frames)
                if stamp is None or stamp > wanted:
                    break
        return None

    def _cut(self, decoder: VideoDecoder, frames: Iterator[VideoFrame], clock: Clock) -> Run:
        """Frames within the segment with their timestamps; at the end of the file, checks for truncation."""
        low, high = self._segment.bounds(self.tolerance_s)
        for frame in frames:
            stamp = clock.stamp(frame)
            time = self.timeline.seconds(stamp)
            if time >= high:
                return
            if time >= low:
                yield stamp, frame
        self._truncated = self._truncated or decoder.promised_more() or ends_early(self._file)

    def _drop_idle(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _release(self, decoder: VideoDecoder) -> None:
        if self._idle is None and not self._closed:
            self._idle = decoder
        else:
            decoder.close()


def _because(decoder: VideoDecoder) -> str:
    return "" if decoder.last_error is None else f": {reason(decoder.last_error)}"
