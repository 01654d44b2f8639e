"""The order of a propagation: prompted frames, then the forward pass, then the backward pass."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from types import TracebackType

import torch

from pipeline.tracking.bank import MemoryBank, MemoryContext
from pipeline.tracking.objects import Direction, FrameSource, TrackedFrame, TrackedObject, check
from pipeline.tracking.priming import prime
from pipeline.tracking.reading import Frame, PendingFrame, chain, closing, read_on
from pipeline.tracking.results import Results
from pipeline.tracking.retirement import Retirement, RetirementRule
from pipeline.tracking.state import Rows, State
from pipeline.tracking.stepping import Correction, Features, SteppedModel, StepRequest, StepResult
from pipeline.tracking.transfer import Ready, result_stream


class Propagation(Iterator[TrackedFrame]):
    """Tracked frames of one video, in the order in which they are stepped.

    Close it when it is left early. It must not be shared by threads.
    """

    def __init__(
        self,
        model: SteppedModel,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction,
        resume: bytes | None,
        branch: bytes | None = None,
        retirement: RetirementRule | None = None,
    ) -> None:
        check(objects, direction, some_needed=self._needs_objects)
        self._model = model
        self._source = source
        self._objects, self._given = list(objects), len(objects)
        self._direction = direction
        self._rule = retirement
        self._retirement = Retirement(retirement) if retirement else None
        reverse = direction == "backward"
        self._state = State(
            banks=[self._make_bank(o.start, first=o.first) for o in objects],
            reverse=reverse,
            next=self._first(reverse=reverse),
            make_bank=self._make_bank,
        )
        if resume is not None:
            self._state.load(resume, self._identity(), model.device)
            if self._retirement and self._state.retirement is not None:
                self._retirement.restore(self._state.retirement)
        elif branch is not None:
            begins = [(o.object_id, o.start) for o in self._objects]
            self._state.load_begun(branch, self._branch_identity(), begins, model.device)
        self._result_stream = result_stream(model.device)
        self._pending: deque[PendingFrame] = deque()
        self._ended = False
        self._frames = self._run()
        self._lane = object()

    def __next__(self) -> TrackedFrame:
        return next(self._frames)

    def close(self) -> None:
        """Leave the shared batches and end the source's decoder."""
        self._frames.close()

    def __enter__(self) -> "Propagation":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_frames"):
            self.close()

    def checkpoint(self) -> bytes:
        """The state after the frames yielded so far, as safetensors. Call it between two frames."""
        if self._retirement:
            self._state.retirement = self._retirement.state()
        return self._state.to_bytes(self._identity())

    @property
    def can_branch(self) -> bool:
        """Whether a batch of the encoder has ended, so that a branch has the same batches as a whole propagation."""
        return not (self._pending or self._ended)

    def branch_state(self) -> bytes:
        """The state after the frames yielded so far, for a propagation whose prompts differ after them.

        It holds the objects that have begun. Call it between two frames of the forward pass, where `can_branch`.
        """
        objects = enumerate(self._objects)
        begun = {i: (o.object_id, o.start) for i, o in objects if o.start < self._state.next}
        return self._state.begun_to_bytes(self._branch_identity(), begun)

    @property
    def _needs_objects(self) -> bool:
        return True

    def _make_bank(self, start: int, *, first: int = 0) -> MemoryBank:
        """The bank of an object that begins at `start` and has no row before `first`."""
        keep_start = self._direction == "both" and first < start
        return MemoryBank(start=start, limits=self._model.limits, keep_start=keep_start)

    def _identity(self) -> dict[str, object]:
        rule = self._rule
        return {
            **({"retirement": [rule.after_s, rule.mask_threshold]} if rule else {}),
            "direction": self._direction,
            "objects": [
                [o.object_id, *sorted([*o.prompts, *o.corrections]), *([[o.first, o.end]] if o.is_cut else [])]
                for o in self._objects[: self._given]
            ],
        }

    def _branch_identity(self) -> dict[str, object]:
        return {"direction": self._direction}

    def _first(self, *, reverse: bool) -> int:
        if not reverse:
            return min(o.start for o in self._objects)
        if self._direction == "backward":
            return max(o.start for o in self._objects)
        return max((o.start for o in self._objects if o.first < o.start), default=0) - 1

    def _run(self) -> Generator[TrackedFrame, None, None]:
        self._model.join(self._lane)
        try:
            yield from self._passes()
        finally:
            self._model.leave(self._lane)

    def _passes(self) -> Iterator[TrackedFrame]:
        if not self._state.primed:
            self._prime()
        if not self._state.reverse:
            yield from self._pass(self._source.forward(self._state.next))
            if self._direction == "forward":
                return
            self._state.reverse = True
            self._state.next = self._first(reverse=True)
            if self._retirement:
                self._retirement.turn()
        if self._state.next < 0:
            return
        self._count_frames()
        yield from self._pass(self._source.backward(self._state.next))

    def _prime(self) -> None:
        earliest_only = self._direction == "backward"
        begun = 0 if self._direction == "backward" else self._state.next  # a branch has the memories of the others
        prime(
            self._state, self._objects, self._source, self._model, self._lane, earliest_only=earliest_only, begun=begun
        )

    def _pass(self, frames: Iterator[Frame]) -> Iterator[TrackedFrame]:
        pending = self._pending
        with closing(self._with_rows(frames if self._state.reverse else self._peek(frames))) as frames:
            while True:
                if not pending:
                    self._fill(pending, frames)
                if not pending:
                    return
                if (frame := self._step(pending)) is not None:
                    yield frame
                if self._retirement and all(self._is_over(i, o) for i, o in enumerate(self._objects)):
                    return

    def _with_rows(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames on which an object has a row in this pass; reads none after the last of them."""
        reverse = self._state.reverse
        with closing(frames):
            for t, pixels in frames:
                if self._active(t):
                    yield t, pixels
                if all(t <= o.first if reverse else o.end is not None and t + 1 >= o.end for o in self._objects):
                    return

    def _fill(self, pending: deque[PendingFrame], frames: Iterator[Frame]) -> None:
        """Read frames until there is a batch of them for the encoder."""
        wanted = self._model.frames_ahead
        while wanted > 0:
            frame = next(frames, None)
            if frame is None:
                self._ended = True
                return
            t, pixels = frame
            needed = any(t not in o.prompts for _, o in self._active(t))
            pending.append(PendingFrame(index=t, pixels=pixels if needed else None))
            wanted -= needed
            if not needed and len(pending) == 1:
                return

    def _active(self, t: int) -> list[tuple[int, TrackedObject]]:
        """The objects that have a row on frame t in this pass, with their positions."""
        direction: Direction = "backward" if self._state.reverse else "forward"
        own_row = self._direction != "both" or not self._state.reverse
        active = [(i, o) for i, o in enumerate(self._objects) if o.has_row(t, direction) and (own_row or t != o.start)]
        return [(i, o) for i, o in active if not self._retirement.ended(i, t)] if self._retirement else active

    def _is_over(self, position: int, o: TrackedObject) -> bool:
        """Whether an object has no later row in this pass."""
        assert self._retirement is not None
        t = self._state.next
        past = t < o.first if self._state.reverse else o.end is not None and t >= o.end
        return past or self._retirement.is_over(position)

    def _retire(self, t: int, active: Sequence[tuple[int, TrackedObject]], rows: Rows, ready: Ready | None) -> None:
        """End the objects that have been absent for long on frame t, the one that was just tracked."""
        if self._retirement is None:
            return
        given = [(i, o) for i, o in active if i < self._given]
        if not given:
            return
        own = [n for n, (i, _) in enumerate(active) if i < self._given]
        if len(own) < len(active):
            rows = Rows(*(part[own] for part in rows))
        for i in self._retirement.add(t, given, rows, ready, reverse=self._state.reverse):
            bank = self._state.banks[i]
            if self._retirement.is_over(i) and not (bank.keep_start and not self._state.reverse):
                bank.clear()

    def _step(self, pending: deque[PendingFrame]) -> TrackedFrame | None:
        """Step the first pending frame and remove it; None if no object has a row on it."""
        t = pending[0].index
        active = self._active(t)
        if not active:  # its objects ended after it was read
            pending.popleft()
            self._state.next = t - 1 if self._state.reverse else t + 1
            return None
        tracked = [i for i, o in active if t not in o.prompts]
        results, done = self._track(pending, tracked) if tracked else (None, None)
        if results is not None:
            self._remember(t, list(enumerate(tracked)), results)
        pending.popleft()
        rows = self._rows(t, active, tracked, results)
        # From here on a checkpoint continues after frame t.
        self._state.next = t - 1 if self._state.reverse else t + 1
        self._release(self._state.next)
        ready = Ready.of(self._result_stream, done if len(tracked) == len(active) else None)
        self._retire(t, active, rows, ready)
        return TrackedFrame(
            frame_index=t,
            object_ids=tuple(o.object_id for _, o in active),
            is_prompted=tuple(o.is_prompted(t) for _, o in active),
            logits=rows.logits,
            object_logit=rows.object_logit,
            predicted_iou=rows.predicted_iou,
            ready=ready,
        )

    def _release(self, t: int) -> None:
        """Empty the banks of objects that have no row from frame t on in this pass, nor in the next one."""
        for bank, o in zip(self._state.banks, self._objects, strict=True):
            if (t < o.first) if self._state.reverse else (o.end is not None and t >= o.end and not bank.keep_start):
                bank.clear()

    def _track(
        self, pending: Sequence[PendingFrame], tracked: Sequence[int]
    ) -> tuple[Results, torch.cuda.Event | None]:
        """Track objects on the first pending frame.

        Returns the results and the event after which they can be read, if they are as the batch left them.
        """
        first = pending[0]
        contexts = [self._context(i, first.index) for i in tracked]
        request, features = self._request(pending)
        request.tracks = [(features, context) for context in contexts]
        result = self._submit(pending, request)
        assert result.tracks is not None
        results = self._corrected(first, tracked, contexts, result.tracks)
        return results, result.done if results is result.tracks else None

    def _request(self, pending: Sequence[PendingFrame]) -> tuple[StepRequest, Features | int]:
        """A request that encodes all pending frames unless the first one is, and the place of the first's features."""
        if pending[0].features is not None:
            return StepRequest(), pending[0].features
        return StepRequest(encode=[frame.pixels for frame in pending if frame.pixels is not None]), 0

    def _submit(self, pending: Sequence[PendingFrame], request: StepRequest) -> StepResult:
        result = self._model.submit(self._lane, request)
        if request.encode:
            new = [frame for frame in pending if frame.pixels is not None]
            for frame, encoded in zip(new, result.features, strict=True):
                frame.features, frame.pixels = encoded, None
        return result

    def _remember(self, t: int, tracked: Iterable[tuple[int, int]], results: Results) -> None:
        """Add results to the banks: `tracked` has their rows and the positions of their objects."""
        for n, i in tracked:
            bank = self._state.banks[i]
            bank.add_tracked(t, results.memory[n], results.pointer[n], reverse=self._state.reverse)

    def _context(self, position: int, t: int) -> MemoryContext:
        assert self._state.max_pointers is not None
        bank = self._state.banks[position]
        since = self._retirement.since(position) if self._retirement else 0
        return bank.context(t, reverse=self._state.reverse, max_pointers=self._state.max_pointers, since=since)

    def _corrected(
        self, frame: PendingFrame, tracked: Sequence[int], contexts: Sequence[MemoryContext], results: Results
    ) -> Results:
        """The results, with those of objects that have a correction on the frame replaced."""
        t = frame.index
        places = [n for n, i in enumerate(tracked) if t in self._objects[i].corrections]
        if not places:
            return results
        request = StepRequest()
        for n in places:
            correction = self._objects[tracked[n]].corrections[t]
            prompt = self._model.prepare(correction, height=self._source.height, width=self._source.width)
            corrected = Correction(context=contexts[n], prompt=prompt, logits=results.logits[n])
            request.corrections.append((frame.features, corrected))
        replaced = self._model.submit(self._lane, request).corrections
        assert replaced is not None
        order = [len(tracked) + places.index(n) if n in places else n for n in range(len(tracked))]
        return Results.cat([results, replaced]).ordered(order)

    def _rows(
        self, t: int, active: Sequence[tuple[int, TrackedObject]], tracked: Sequence[int], results: Results | None
    ) -> Rows:
        """The rows of all active objects: those tracked now, and those of prompts that were run before."""
        if results is not None and len(tracked) == len(active):
            return Rows(results.logits, results.object_logit, results.predicted_iou)
        rows: list[Rows] = []
        for i, o in active:
            if t in o.prompts:
                rows.append(self._state.prompted.pop((t, i)))
            elif results is not None:
                n = tracked.index(i)
                row = results.rows(n, n + 1)
                rows.append(Rows(row.logits, row.object_logit, row.predicted_iou))
        return rows[0] if len(rows) == 1 else Rows(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _peek(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, after reading ahead until min(video length, the pointers' limit) is known."""
        if self._state.max_pointers is not None:
            return frames
        self._state.max_pointers, head = read_on(frames, self._known_frames(), self._model.max_pointers)
        return chain(head, frames)

    def _count_frames(self) -> None:
        """Find min(video length, the pointers' limit) for a backward pass without a forward pass before it."""
        if self._state.max_pointers is not None:
            return
        known, limit = self._known_frames(), self._model.max_pointers
        if known < limit:
            with closing(self._source.forward(known - 1)) as frames:
                known, _ = read_on(frames, known, limit)
        self._state.max_pointers = min(known, limit)

    def _known_frames(self) -> int:
        return 1 + max((t for o in self._objects for t in o.prompts), default=-1)
