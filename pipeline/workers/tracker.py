"""The passes over a video: propagation into mask rows with checkpoints, and the second pass that measures drift."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import pyarrow.compute as pc

from pipeline.detection.association import Associator
from pipeline.errors import InterruptedLabelingError
from pipeline.labels import PartBuilder
from pipeline.labels.measures.drift import reverse_seeds
from pipeline.labels.rows import measure_frame
from pipeline.masks import rle
from pipeline.tracking import (
    Direction,
    Engine,
    FramePrompt,
    MaskPostprocessor,
    Propagation,
    TrackedFrame,
    TrackedObject,
)
from pipeline.tracking.merging import merge_passes
from pipeline.tracking.retirement import RetirementRule
from pipeline.tracking.stepping import LoadedModel
from pipeline.video import VideoReader, prefetch
from pipeline.workers.association import MakeDecider
from pipeline.workers.checkpoint import Checkpoints
from pipeline.workers.chosen import ChosenFrames, DeciderOfPositions
from pipeline.workers.earlier import Earlier
from pipeline.workers.frame_masks import to_host
from pipeline.workers.frames import ModelFrames
from pipeline.workers.kept import Intervals
from pipeline.workers.metrics import Totals
from pipeline.workers.relabelling import EarlierLabels
from pipeline.workers.states import KeptStates

RESULTS_AHEAD = 4
"""Tracked frames that wait to be encoded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """A tracked frame and, if one is due after it, the tracker's state for a checkpoint and one to keep."""

    frame: TrackedFrame
    state: bytes | None = None
    kept: bytes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstPass:
    """What a first pass has made besides its rows."""

    frames: int
    """Number of frames of the segment that this direction has decoded."""
    decider: Associator | None
    """Who decided on more objects."""
    earlier: Earlier | None
    """Which rows are those of earlier labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoTracker:
    """Tracks the objects of one video and adds their mask rows to a part. The model runs in a separate thread."""

    engine: Engine
    model: LoadedModel
    postprocessor: MaskPostprocessor
    reader: VideoReader
    direction: Direction
    max_conditioning_frames: int | None = None
    retire_after_s: float | None = None
    """An object that is absent for so many seconds ends; None: never."""
    checkpoint_every_s: float
    clocks: Sequence[Totals]
    """Totals that frames, masks and seconds by stage are added to."""
    stopping: threading.Event
    """Interrupts both passes at their next frame."""
    chosen: ChosenFrames | None
    """The labelled frames; objects have positions among them for frames. None for all frames of the video."""
    on_frame: Callable[[int], None]
    """Called with the index of each frame of the first pass before its rows are made, in the caller's thread."""

    @property
    def _merges_passes(self) -> bool:
        """Whether frames are complete only after the backward pass, so that there is no state to checkpoint."""
        return self.postprocessor.non_overlapping and self.direction == "both"

    def first_pass(
        self,
        objects: Sequence[TrackedObject],
        builder: PartBuilder,
        checkpoints: Checkpoints,
        *,
        resume: bool,
        make_decider: MakeDecider | None = None,
        earlier_labels: EarlierLabels | None = None,
        keeper: KeptStates | None = None,
    ) -> FirstPass:
        """Propagate the objects and add their rows to `builder`, from the latest checkpoint if `resume`.

        Without a checkpoint, from a kept state of `earlier_labels` if one is usable. `keeper` keeps states.

        Raises:
            InterruptedLabelingError: `stopping` was set; a checkpoint is saved where the passes are not merged.
        """
        frames = self._source()
        decider = make_decider(frames) if make_decider else None
        retirement = None
        if self.retire_after_s is not None:
            threshold = self.postprocessor.mask_threshold
            retirement = RetirementRule(
                after_s=self.retire_after_s, time_of=frames.times.__getitem__, mask_threshold=threshold
            )
        propagate = partial(
            self.engine.propagate,
            frames,
            objects,
            direction=self.direction,
            max_conditioning_frames=self.max_conditioning_frames,
            decider=DeciderOfPositions(decider, self.chosen) if decider and self.chosen else decider,
            retirement=retirement,
        )
        saved = None
        if resume and not self._merges_passes:
            saved = checkpoints.load(lambda state: propagate(resume=state))
        if saved is None and earlier_labels is not None:
            saved = earlier_labels.load(lambda state: propagate(branch=state))
        if saved and keeper:
            keeper.adopt(saved.states)
        last = max((self._frame(index) for each in objects for index in each.prompts), default=-1)
        for rows in chain(saved.earlier_rows, saved.rows) if saved else ():
            builder.add_rows(rows)
            last = max(last, pc.max(rows["frame_index"]).as_py() or 0)
        done = saved.frames if saved else 0
        propagation = saved.tracker if saved else propagate()
        followed_back = [each.start for each in objects if each.first < each.start]
        merge_from = max(followed_back, default=0) if self._merges_passes else None
        every_s = None if self._merges_passes else self.checkpoint_every_s
        earlier = saved.earlier if saved else None
        intervals = Intervals(most=keeper.most, last=keeper.last, frames=done) if keeper else None
        with self._steps(propagation, merge_from=merge_from, checkpoint_every_s=every_s, intervals=intervals) as steps:
            for step in steps:
                frame_index = frames.frame_of(step.frame.frame_index)
                self.on_frame(frame_index)
                with self.clocks[0].clock("encode_s"):
                    self._add(builder, step.frame, frames, with_logits=True)
                done, last = done + 1, max(last, frame_index)
                for clock in self.clocks:
                    clock.add("frames", 1)
                    clock.add("masks", len(step.frame.object_ids))
                if step.kept is not None and keeper:
                    keeper.keep(step.kept, frames=done, before=frame_index + 1)
                if step.state is not None:
                    checkpoints.save(
                        new_rows=builder.drain(),
                        tracker=step.state,
                        frames=done,
                        earlier=earlier,
                        states=keeper.states if keeper else (),
                    )
        return FirstPass(frames=max(last + 1, self.reader.damage.decoded_frames), decider=decider, earlier=earlier)

    def second_pass(self, objects: Sequence[TrackedObject], first: PartBuilder, second: PartBuilder) -> None:
        """Track every appearance of an object back from its last visible mask to its first frame; add to `second`.

        After a `backward` first pass, from the mask on its first visible frame forward to its last frame.

        Raises:
            InterruptedLabelingError: `stopping` was set.
        """
        was_backward = self.direction == "backward"
        begins: dict[int, list[int]] = {}
        for each in objects:
            if each.first > 0:
                begins.setdefault(each.object_id, []).append(self._frame(each.first))
        seeds = reverse_seeds(first.by_object(), backward=was_backward, begins=begins)
        if not seeds:
            return
        size = (self.reader.info.height, self.reader.info.width)
        seeded = [
            TrackedObject(
                object_id=seed.object_id,
                prompts={start: FramePrompt(mask=rle.decode(seed.counts, size))},
                first=min(start, last),
                end=max(start, last) + 1,
            )
            for seed in seeds
            for start, last in [(self._position(seed.frame), self._position(seed.end))]
        ]
        frames = self._source()
        propagation = self.engine.propagate(frames, seeded, direction="forward" if was_backward else "backward")
        with self._steps(propagation) as steps:
            for step in steps:
                self._add(second, step.frame, frames, with_logits=False)

    def _source(self) -> ModelFrames:
        at_once = self.engine.frames_at_once
        return ModelFrames(self.reader, self.model, self.clocks, frames_at_once=at_once, chosen=self.chosen)

    def _frame(self, index: int) -> int:
        """The frame of the video at an index of the source."""
        frame = index if self.chosen is None else self.chosen.frame(index)
        assert frame is not None
        return frame

    def _position(self, frame: int) -> int:
        """The index of a labelled frame in the source."""
        return frame if self.chosen is None else self.chosen.position(frame)

    @contextmanager
    def _steps(
        self,
        propagation: Propagation,
        *,
        merge_from: int | None = None,
        checkpoint_every_s: float | None = None,
        intervals: Intervals | None = None,
    ) -> Iterator[Iterator[Step]]:
        """Steps of one propagation, made ahead of the consumer in a thread of their own.

        With `merge_from`, the latest first prompt of the objects that are followed back, both passes are merged.
        """
        with propagation:
            steps = self._interruptible(propagation, checkpoint_every_s, intervals)
            for clock in self.clocks:
                steps = clock.timed(steps, "step_s", "blocked_s")
            if merge_from is not None:
                merged = merge_passes((step.frame for step in steps), last_start=merge_from)
                steps = (Step(frame=frame) for frame in merged)
            with closing(prefetch(steps, depth=RESULTS_AHEAD)) as ahead:
                yield ahead

    def _interruptible(
        self, propagation: Propagation, checkpoint_every_s: float | None, intervals: Intervals | None
    ) -> Iterator[Step]:
        """The propagation's frames, with the tracker's state when a checkpoint is due or `stopping` was set.

        With `intervals`, also with the states to keep.
        """
        saved_at = time.monotonic()
        for frame in propagation:
            stopping, state = self.stopping.is_set(), None
            if checkpoint_every_s is not None and (stopping or time.monotonic() - saved_at >= checkpoint_every_s):
                state, saved_at = propagation.checkpoint(), time.monotonic()
            kept = None
            if intervals is not None and intervals.due(usable=propagation.can_branch):
                kept = propagation.branch_state()
            yield Step(frame=frame, state=state, kept=kept)
            if stopping:
                raise InterruptedLabelingError("the worker was asked to stop")

    def _add(self, builder: PartBuilder, frame: TrackedFrame, frames: ModelFrames, *, with_logits: bool) -> None:
        size = (self.reader.info.height, self.reader.info.width)
        time_s = frames.times[frame.frame_index]
        frame = replace(frame, frame_index=frames.frame_of(frame.frame_index)) if self.chosen else frame
        builder.add(
            measure_frame(to_host(frame, self.postprocessor, time_s=time_s, size=size, with_logits=with_logits))
        )
