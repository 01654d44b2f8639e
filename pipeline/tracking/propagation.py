"""The order of things: prompted frames first, then forward, then backward; what is yielded, and what a resume needs."""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType

import torch

from pipeline.tracking.bank import MemoryBank, Recall
from pipeline.tracking.priming import prime
from pipeline.tracking.prompts import Direction, FrameSource, TrackedFrame, TrackedObject, check, to_model
from pipeline.tracking.reading import Frame, chain, closing, read_on
from pipeline.tracking.results import Results
from pipeline.tracking.sam2.encoder import Features
from pipeline.tracking.state import Rows, State
from pipeline.tracking.work import Correction, Model, Work


class Propagation(Iterator[TrackedFrame]):
    """Tracked frames of one video, in the order stepped; close it when leaving early. Not to be shared by threads."""

    def __init__(
        self,
        model: Model,
        source: FrameSource,
        objects: Sequence[TrackedObject],
        *,
        direction: Direction,
        resume: bytes | None,
    ) -> None:
        check(objects, direction)
        self._model = model
        self._source = source
        self._objects = tuple(objects)
        self._direction = direction
        reverse = direction == "backward"
        self._state = State(
            banks=[MemoryBank(start=o.start, limits=model.limits, keep_start=direction == "both") for o in objects],
            reverse=reverse,
            next=self._first(reverse=reverse),
        )
        if resume is not None:
            self._state.load(resume, self._identity(), model.device)
        self._frames = self._run()
        self._lane = object()

    def __next__(self) -> TrackedFrame:
        return next(self._frames)

    def close(self) -> None:
        self._frames.close()

    def __enter__(self) -> "Propagation":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_frames"):
            self.close()

    def checkpoint(self) -> bytes:
        """All that continues from the frames yielded so far, as safetensors; call it between two frames."""
        return self._state.to_bytes(self._identity())

    def _identity(self) -> dict[str, object]:
        return {
            "direction": self._direction,
            "objects": [[o.object_id, *sorted([*o.prompts, *o.corrections])] for o in self._objects],
        }

    def _first(self, *, reverse: bool) -> int:
        starts = [o.start for o in self._objects]
        if not reverse:
            return min(starts)
        return max(starts) - (self._direction == "both")

    def _run(self) -> Generator[TrackedFrame, None, None]:
        self._model.join(self._lane)
        try:
            yield from self._passes()
        finally:
            self._model.leave(self._lane)

    def _passes(self) -> Iterator[TrackedFrame]:
        if not self._state.primed:
            starts_alone = self._direction == "backward"
            prime(self._state, self._objects, self._source, self._model, self._lane, starts_alone=starts_alone)
        if not self._state.reverse:
            yield from self._pass(self._source.forward(self._state.next))
            if self._direction == "forward":
                return
            self._state.reverse = True
            self._state.next = self._first(reverse=True)
        if self._state.next < 0:
            return
        self._count_frames()
        yield from self._pass(self._source.backward(self._state.next))

    def _pass(self, frames: Iterator[Frame]) -> Iterator[TrackedFrame]:
        ready: deque[tuple[int, torch.Tensor | Features | None]] = deque()
        with closing(frames if self._state.reverse else self._peek(frames)) as frames:
            while True:
                if not ready:
                    self._fill(ready, frames)
                if not ready:
                    return
                yield self._step(ready)

    def _fill(self, ready: deque[tuple[int, torch.Tensor | Features | None]], frames: Iterator[Frame]) -> None:
        """Read on until enough frames are together that must be encoded."""
        wanted = self._model.frames_ahead
        while wanted > 0:
            frame = next(frames, None)
            if frame is None:
                return
            t, pixels = frame
            needed = any(t not in o.prompts for _, o in self._active(t))
            ready.append((t, pixels if needed else None))
            wanted -= needed
            if not needed and len(ready) == 1:
                return

    def _active(self, t: int) -> list[tuple[int, TrackedObject]]:
        """The objects that have a row on frame t in this pass."""
        if not self._state.reverse:
            return [(i, o) for i, o in enumerate(self._objects) if o.start <= t]
        own_row = self._direction == "backward"
        return [(i, o) for i, o in enumerate(self._objects) if t < o.start or (own_row and t == o.start)]

    def _step(self, ready: deque[tuple[int, torch.Tensor | Features | None]]) -> TrackedFrame:
        t, frame = ready[0]
        active = self._active(t)
        tracked = [i for i, o in active if t not in o.prompts]
        results = None
        if tracked:
            assert self._state.max_pointers is not None
            work = Work()
            if isinstance(frame, torch.Tensor):
                work.encode = [pixels for _, pixels in ready if isinstance(pixels, torch.Tensor)]
            features: Features | int = frame if isinstance(frame, Features) else 0
            recalls = [
                self._state.banks[i].recall(t, reverse=self._state.reverse, max_pointers=self._state.max_pointers)
                for i in tracked
            ]
            work.tracks = [(features, recall) for recall in recalls]
            done = self._model.submit(self._lane, work)
            encoded = iter(done.features)
            for n, (index, pixels) in enumerate(ready):
                if isinstance(pixels, torch.Tensor):
                    ready[n] = (index, next(encoded))
            results = done.tracks
            assert results is not None
            results = self._corrected(t, ready[0][1], tracked, recalls, results)
            for n, i in enumerate(tracked):
                self._state.banks[i].add_tracked(t, results.memory[n], results.pointer[n], reverse=self._state.reverse)
        ready.popleft()
        rows: list[Rows] = []
        if results is not None and len(tracked) == len(active):
            rows.append((results.logits, results.object_logit, results.predicted_iou))
        else:
            for i, o in active:
                if t in o.prompts:
                    rows.append(self._state.prompted.pop((t, i)))
                elif results is not None:
                    n = tracked.index(i)
                    row = results.rows(n, n + 1)
                    rows.append((row.logits, row.object_logit, row.predicted_iou))
        logits, object_logit, predicted_iou = (
            torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*rows, strict=True)
        )
        # From here on a checkpoint continues after frame t.
        self._state.next = t - 1 if self._state.reverse else t + 1
        return TrackedFrame(
            frame_index=t,
            object_ids=tuple(o.object_id for _, o in active),
            is_prompted=tuple(o.says(t) for _, o in active),
            logits=logits,
            object_logit=object_logit,
            predicted_iou=predicted_iou,
        )

    def _corrected(
        self,
        t: int,
        features: torch.Tensor | Features | None,
        tracked: Sequence[int],
        recalls: Sequence[Recall],
        results: Results,
    ) -> Results:
        """The results, those of objects that have a correction on frame t replaced."""
        places = [n for n, i in enumerate(tracked) if t in self._objects[i].corrections]
        if not places:
            return results
        assert isinstance(features, Features)
        work = Work()
        for n in places:
            said = self._objects[tracked[n]].corrections[t]
            prompt = to_model(said, self._source, target=self._model.image_size)
            work.corrections.append((features, Correction(recall=recalls[n], prompt=prompt, logits=results.logits[n])))
        corrected = self._model.submit(self._lane, work).corrections
        assert corrected is not None
        order = [len(tracked) + places.index(n) if n in places else n for n in range(len(tracked))]
        return Results.cat([results, corrected]).ordered(order)

    def _peek(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Read ahead as far as it takes to know min(video length, the pointers' limit): pointers are scaled by it."""
        if self._state.max_pointers is not None:
            return frames
        self._state.max_pointers, head = read_on(frames, self._known_frames(), self._model.max_pointers)
        return chain(head, frames)

    def _count_frames(self) -> None:
        """The same for a backward pass that no forward pass came before."""
        if self._state.max_pointers is not None:
            return
        known, limit = self._known_frames(), self._model.max_pointers
        if known < limit:
            with closing(self._source.forward(known - 1)) as frames:
                known, _ = read_on(frames, known, limit)
        self._state.max_pointers = min(known, limit)

    def _known_frames(self) -> int:
        return 1 + max(t for o in self._objects for t in o.prompts)
