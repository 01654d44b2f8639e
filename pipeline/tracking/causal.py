"""Propagation that attends to the latest prompted frames, so that prompts can be decided while it runs.

A frame attends to at most N prompted frames, the latest that its pass has reached. Ordinary propagation runs all
prompts first and attends to later ones too. Here a prompt runs on its own frame, and what is tracked before it does not
depend on it. So a prompt that is decided there gives the same masks as the same prompt in a manifest, and memory and
time do not grow with the number of prompts. Objects that are prompted again are tracked on that frame first and then
replaced, so that batches are the same in both cases.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from pipeline.tracking.bank import MemoryBank
from pipeline.tracking.decisions import Decider
from pipeline.tracking.objects import Direction, FramePrompt, FrameSource, TrackedFrame, TrackedObject
from pipeline.tracking.priming import prime, read_prompted
from pipeline.tracking.propagation import Propagation
from pipeline.tracking.reading import Frame, PendingFrame
from pipeline.tracking.results import Results
from pipeline.tracking.retirement import RetirementRule
from pipeline.tracking.state import Rows
from pipeline.tracking.stepping import SteppedModel
from pipeline.tracking.transfer import Ready

_RUN = FramePrompt(box=np.zeros(4, np.float32))
"""Stands for a decided prompt that has run: its memory is in the bank, and it may have held a large mask."""


class CausalPropagation(Propagation):
    """Tracked frames of one video; a frame attends to the latest prompted frames that its pass has reached."""

    def __init__(
        self,
        model: SteppedModel,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction,
        resume: bytes | None,
        branch: bytes | None = None,
        max_conditioning_frames: int,
        decider: Decider | None = None,
        retirement: RetirementRule | None = None,
    ) -> None:
        if max_conditioning_frames < 1:
            raise ValueError(f"Invalid max_conditioning_frames ({max_conditioning_frames}). It must be at least 1.")
        if decider is not None and direction == "backward":
            raise ValueError("Objects are decided in a forward pass; the direction must be forward or both.")
        self._max_prompted = max_conditioning_frames
        self._decider = decider
        super().__init__(
            model, source, objects, direction=direction, resume=resume, branch=branch, retirement=retirement
        )
        if decider is not None and self._state.decisions is not None:
            decider.restore(self._state.decisions["decider"])
            self._objects += [
                TrackedObject(object_id=object_id, prompts={start: _RUN}, first=first, end=end)
                for object_id, start, first, end in self._state.decisions["objects"]
            ]

    def checkpoint(self) -> bytes:
        if self._decider is not None:
            decided = [[o.object_id, o.start, o.first, o.end] for o in self._objects[self._given :]]
            self._state.decisions = {"objects": decided, "decider": self._decider.state()}
        return super().checkpoint()

    @property
    def _needs_objects(self) -> bool:
        return self._decider is None

    def _make_bank(self, start: int, *, first: int = 0) -> MemoryBank:
        return replace(super()._make_bank(start, first=first), max_prompted=self._max_prompted)

    def _identity(self) -> dict[str, object]:
        given = super()._identity()
        return {**given, "max_prompted": self._max_prompted, "decides": self._decider is not None}

    def _branch_identity(self) -> dict[str, object]:
        return {**super()._branch_identity(), "max_prompted": self._max_prompted}

    def _first(self, *, reverse: bool) -> int:
        wanted = [] if reverse or self._decider is None else [self._decider.first or 0]
        return min([super()._first(reverse=reverse), *wanted]) if self._objects else (wanted or [-1])[0]

    def _prime(self) -> None:
        if self._direction == "backward":
            nearest = [replace(o, prompts=_earliest(o.prompts, self._max_prompted)) for o in self._objects]
            prime(self._state, nearest, self._source, self._model, self._lane, earliest_only=True)
            return
        if last := max((t for o in self._objects for t in (*o.prompts, *o.corrections)), default=None):
            read_prompted(self._source, [last])  # fails before hours of tracking, not after them
        self._state.primed = True

    def _with_rows(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """All frames of the forward pass: an object may begin on any of them, and batches must not differ."""
        return super()._with_rows(frames) if self._state.reverse else frames

    def _fill(self, pending: deque[PendingFrame], frames: Iterator[Frame]) -> None:
        if self._state.reverse:
            super()._fill(pending, frames)
            return
        while len(pending) < self._model.frames_ahead and not self._ended:
            if (frame := next(frames, None)) is None:
                self._ended = True
            else:
                pending.append(PendingFrame(index=frame[0], pixels=frame[1]))

    def _step(self, pending: deque[PendingFrame]) -> TrackedFrame | None:
        if self._state.reverse:
            return super()._step(pending)
        t = pending[0].index
        tracked = [i for i, o in self._active(t) if o.start < t and not self._begins_again(i, t)]
        results, done = self._track(pending, tracked) if tracked else (None, None)
        prompts = {i: o.prompts[t] for i, o in self._active(t) if t in o.prompts}
        if self._decider is not None and self._decider.looks_at(t):
            prompts |= self._decided(self._decider, t, tracked, results, done)
        prompted = self._prompt(pending, prompts) if prompts else None
        kept = [(n, i) for n, i in enumerate(tracked) if i not in prompts]
        if results is not None:
            self._remember(t, kept, results)
        pending.popleft()
        self._state.next = t + 1
        self._release(t + 1)
        row_of = {i: (results, n) for n, i in kept} | {i: (prompted, n) for n, i in enumerate(prompts)}
        row_of = dict(sorted(row_of.items(), key=lambda item: self._rank(item[0])))
        if not row_of:
            return None
        whole = results if results is not None and not prompts else None
        rows = Rows(whole.logits, whole.object_logit, whole.predicted_iou) if whole else _joined(row_of)
        positions = list(row_of)
        objects = [self._objects[i] for i in positions]
        ready = Ready.of(self._result_stream, done if whole else None)
        self._retire(t, list(zip(positions, objects, strict=True)), rows, ready)
        return TrackedFrame(
            frame_index=t,
            object_ids=tuple(o.object_id for o in objects),
            is_prompted=tuple(i in prompts or o.is_prompted(t) for i, o in zip(positions, objects, strict=True)),
            logits=rows.logits,
            object_logit=rows.object_logit,
            predicted_iou=rows.predicted_iou,
            ready=ready,
        )

    def _begins_again(self, position: int, t: int) -> bool:
        return self._retirement is not None and self._retirement.since(position) == t

    def _is_over(self, position: int, o: TrackedObject) -> bool:
        return super()._is_over(position, o) and (self._decider is None or self._state.reverse)

    def _active(self, t: int) -> list[tuple[int, TrackedObject]]:
        return sorted(super()._active(t), key=lambda item: self._rank(item[0]))

    def _rank(self, position: int) -> tuple[int, int]:
        """The place of an object among others: decided ones are in the order of their ids, as in a manifest."""
        return (0, position) if position < self._given else (1, self._objects[position].object_id)

    def _decided(
        self, decider: Decider, t: int, tracked: Sequence[int], results: Results | None, done: torch.cuda.Event | None
    ) -> dict[int, FramePrompt]:
        """The prompts that are decided on frame t, by position of their object; new objects are added."""
        seen = None
        if results is not None:
            seen = TrackedFrame(
                frame_index=t,
                object_ids=tuple(self._objects[i].object_id for i in tracked),
                is_prompted=(False,) * len(tracked),
                logits=results.logits,
                object_logit=results.object_logit,
                predicted_iou=results.predicted_iou,
                ready=Ready.of(self._result_stream, done),
            )
        decision = decider.decide(t, seen)
        place = {o.object_id: i for i, o in enumerate(self._objects) if i >= self._given}
        prompts = {}
        for object_id, prompt in decision.prompts.items():
            again = object_id in place and self._objects[place[object_id]].end is not None
            if object_id not in place or again:
                place[object_id] = len(self._objects)
                first = t if again else 0
                self._objects.append(TrackedObject(object_id=object_id, prompts={t: _RUN}, first=first))
                self._state.banks.append(self._make_bank(t, first=first))
            prompts[place[object_id]] = prompt
        for object_id in decision.ended:
            i = place[object_id]
            self._objects[i] = replace(self._objects[i], end=t + 1)
        return prompts

    def _prompt(self, pending: Sequence[PendingFrame], prompts: Mapping[int, FramePrompt]) -> Results:
        """Run prompts on the first pending frame, without memory, and add them to their objects' banks."""
        request, features = self._request(pending)
        size = {"height": self._source.height, "width": self._source.width}
        request.prompts = [(features, self._model.prepare(prompt, **size)) for prompt in prompts.values()]
        results = self._submit(pending, request).prompts
        assert results is not None
        for n, i in enumerate(prompts):
            self._state.banks[i].add_prompted(pending[0].index, results.memory[n], results.pointer[n])
        return results


def _earliest(prompts: Mapping[int, FramePrompt], count: int) -> dict[int, FramePrompt]:
    return {t: prompts[t] for t in sorted(prompts)[:count]}


def _joined(row_of: Mapping[int, tuple[Results | None, int]]) -> Rows:
    """The rows in this order."""
    rows = []
    for results, n in row_of.values():
        assert results is not None
        row = results.rows(n, n + 1)
        rows.append((row.logits, row.object_logit, row.predicted_iou))
    return Rows(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
